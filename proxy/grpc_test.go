package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshd/meshd/proxy/plan"
)

type message = wrapperspb.BytesValue

// echoService has one method, which sends back each message it receives, after
// what the first one says: "fail", "hang", or "late", which is to say all at the
// end.
type echoService struct{ seen chan context.Context }

func (e *echoService) echo(_ any, s grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(s.Context())
	s.SetHeader(metadata.Pairs("x-head", strings.Join(md.Get("x-ask"), ",")))
	s.SetTrailer(metadata.Pairs("x-tail", strings.Join(md.Get("meshd-client-id"), ","), "x-tail-bin", "\x00\xff"))
	if e.seen != nil {
		e.seen <- s.Context()
	}
	var late []*message
	for {
		m := &message{}
		if err := s.RecvMsg(m); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		switch {
		case string(m.Value) == "fail":
			return status.Error(codes.FailedPrecondition, "as told: 100 % \n")
		case string(m.Value) == "hang":
			<-s.Context().Done()
			return status.FromContextError(s.Context().Err()).Err()
		case string(m.Value) == "late" || late != nil:
			late = append(late, m)
		default:
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	}
	for _, m := range late {
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
	return nil
}

var both = &grpc.StreamDesc{StreamName: "Echo", ServerStreams: true, ClientStreams: true}

// grpc makes the service one of gRPC.
func (m *mesh) grpc() {
	m.service.Protocol, m.cluster.Protocol, m.far().inbound.Protocol = plan.GRPC, plan.GRPC, plan.GRPC
	m.apply()
}

// serveGRPC runs an application of gRPC, and gives a connection to it.
func (m *mesh) serveGRPC(seen chan context.Context) *grpc.ClientConn {
	m.t.Helper()
	m.grpc()
	l, err := m.far().Listen(m.t.Context(), "tcp", m.far().app)
	if err != nil {
		m.t.Fatal(err)
	}
	s := grpc.NewServer()
	e := &echoService{seen: seen}
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Echo", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		{StreamName: "Echo", Handler: e.echo, ServerStreams: true, ClientStreams: true},
	}}, e)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	c, err := grpc.NewClient("passthrough:///orders", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return m.near().DialContext(ctx, "tcp", m.vip) }))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		c.Close()
		s.Stop()
		<-done
	})
	return c
}

func echo(t *testing.T, ctx context.Context, c *grpc.ClientConn, options ...grpc.CallOption) grpc.ClientStream {
	t.Helper()
	s, err := c.NewStream(ctx, both, "/test.Echo/Echo", options...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGRPCCallsOfAllKinds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newMesh(t, 2).serveGRPC(nil)
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-ask", "a", "x-ask", "b", "meshd-client-id", "me")
		large := bytes.Repeat([]byte("0123456789"), 300_000)
		receive := func(s grpc.ClientStream, want ...[]byte) {
			t.Helper()
			for i, w := range want {
				m := &message{}
				if err := s.RecvMsg(m); err != nil || !bytes.Equal(m.Value, w) {
					t.Fatalf("message %d: %d bytes, %v", i, len(m.Value), err)
				}
			}
		}
		end := func(s grpc.ClientStream) {
			t.Helper()
			if err := s.RecvMsg(&message{}); err != io.EOF {
				t.Errorf("at the end: %v", err)
			}
			head, _ := s.Header()
			if got := head.Get("x-head"); len(got) != 1 || got[0] != "a,b" {
				t.Errorf("header %v", head)
			}
			if tail := s.Trailer(); len(tail.Get("x-tail")) != 1 || tail.Get("x-tail")[0] != web || tail.Get("x-tail-bin")[0] != "\x00\xff" {
				t.Errorf("trailer %v", tail)
			}
		}
		// Unary.
		var reply message
		var head, tail metadata.MD
		if err := c.Invoke(ctx, "/test.Echo/Echo", &message{Value: large}, &reply, grpc.Header(&head), grpc.Trailer(&tail)); err != nil || !bytes.Equal(reply.Value, large) {
			t.Errorf("unary: %v, %d bytes", err, len(reply.Value))
		}
		// The client streams, and is answered at the end.
		s := echo(t, ctx, c)
		for _, m := range []string{"late", "one", "two"} {
			s.SendMsg(&message{Value: []byte(m)})
		}
		s.CloseSend()
		receive(s, []byte("late"), []byte("one"), []byte("two"))
		end(s)
		// Both do, one after the other, and at once.
		s = echo(t, ctx, c)
		for range 10 {
			s.SendMsg(&message{Value: []byte("ping")})
			receive(s, []byte("ping"))
		}
		go func() {
			for range 10 {
				s.SendMsg(&message{Value: large})
			}
			s.CloseSend()
		}()
		for range 10 {
			receive(s, large)
		}
		end(s)
	})
}

func TestGRPCStatus(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		c := m.serveGRPC(nil)
		s := echo(t, t.Context(), c)
		s.SendMsg(&message{Value: []byte("fail")})
		s.CloseSend() // else the client resets the stream as soon as it has the status
		err := s.RecvMsg(&message{})
		if st := status.Convert(err); st.Code() != codes.FailedPrecondition || st.Message() != "as told: 100 % \n" {
			t.Errorf("got %v", err)
		}
		if err := c.Invoke(t.Context(), "/test.Echo/None", &message{}, &message{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("a method that is not there: %v", err)
		}
		m.far().inbound.Policies = []plan.Policy{{Name: "p", DefaultDeny: true}}
		m.apply()
		if err := c.Invoke(t.Context(), "/test.Echo/Echo", &message{}, &message{}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("a call that policy refuses: %v", err)
		}
		synctest.Wait() // what has been answered may still be being counted
		for name, want := range map[string]float64{"9": 1, "12": 1} {
			if got := m.near().value(t, "meshd_grpc_calls_total", "status", name); got != want {
				t.Errorf("%v calls with status %s, want %v", got, name, want)
			}
		}
	})
}

func TestGRPCDeadlinesTravel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		seen := make(chan context.Context, 1)
		c := newMesh(t, 2).serveGRPC(seen)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s := echo(t, ctx, c)
		s.SendMsg(&message{Value: []byte("hang")})
		application := <-seen
		deadline, ok := application.Deadline()
		if left := time.Until(deadline); !ok || left <= 4*time.Second || left > 5*time.Second {
			t.Errorf("the application has %v left", left)
		}
		if err := s.RecvMsg(&message{}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("the caller sees %v", err)
		}
		<-application.Done()
	})
}

func TestGRPCCancellationTravels(t *testing.T) {
	bubble(t, func(t *testing.T) {
		seen := make(chan context.Context, 1)
		c := newMesh(t, 2).serveGRPC(seen)
		ctx, cancel := context.WithCancel(t.Context())
		s := echo(t, ctx, c)
		s.SendMsg(&message{Value: []byte("hang")})
		application := <-seen
		synctest.Wait()
		began := time.Now()
		cancel()
		<-application.Done()
		if !errors.Is(application.Err(), context.Canceled) || time.Since(began) > time.Second {
			t.Errorf("the application sees %v after %v", application.Err(), time.Since(began))
		}
	})
}

// A reader that is slow stops the writer, and bounded memory is all it takes.
func TestGRPCSlowReaders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newMesh(t, 2).serveGRPC(nil)
		slow, quick := echo(t, t.Context(), c), echo(t, t.Context(), c)
		sent := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 1000 {
				if slow.SendMsg(&message{Value: make([]byte, 10_000)}) != nil {
					return
				}
				sent++
			}
		}()
		synctest.Wait()
		if sent > 500 {
			t.Errorf("%d messages of 10 kB were taken while nobody reads", sent)
		}
		for range 10 {
			quick.SendMsg(&message{Value: []byte("ping")})
			if err := quick.RecvMsg(&message{}); err != nil {
				t.Fatal(err)
			}
		}
		for range 1000 {
			if err := slow.RecvMsg(&message{}); err != nil {
				t.Fatal(err)
			}
		}
		<-done
	})
}

// What speaks HTTP/1.1 can call what speaks HTTP/2, too.
func TestHTTP1CallersOfHTTP2Applications(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.grpc()
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			io.WriteString(w, r.Proto+" "+r.Method+" "+r.Host+" "+string(body))
		})
		if r := m.roundTrip("POST / HTTP/1.1\nHost: orders\nContent-Length: 5\n\nhello"); r.body != "HTTP/2.0 POST orders hello" {
			t.Errorf("got %q", r.body)
		}
	})
}
