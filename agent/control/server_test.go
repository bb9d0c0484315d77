package control

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/meshd/meshd/agent/slice"
	apiv1 "github.com/meshd/meshd/api/v1"
)

// A fakeServer is the other end of a stream, which notes what it is told.
type fakeServer struct {
	apiv1.UnimplementedControlServer
	name    string
	servers []string

	mu      sync.Mutex
	silent  bool // answers nothing
	clock   func() int64
	refusal string // of registrations
	got     []*apiv1.AgentMessage
	streams []apiv1.Control_ConnectServer // open ones
	signed  int
}

func (f *fakeServer) Connect(s apiv1.Control_ConnectServer) error {
	f.mu.Lock()
	f.streams = append(f.streams, s)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.streams = slices.DeleteFunc(f.streams, func(o apiv1.Control_ConnectServer) bool { return o == s })
		f.mu.Unlock()
	}()
	for {
		m, err := s.Recv()
		if err != nil {
			return nil
		}
		if answer := f.answer(m); answer != nil {
			if err := s.Send(answer); err != nil {
				return err
			}
		}
		if m.GetGoodbye() != nil {
			return nil
		}
	}
}

func (f *fakeServer) answer(m *apiv1.AgentMessage) *apiv1.ServerMessage {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(f.got, m)
	switch {
	case f.silent:
	case m.GetHello() != nil:
		return &apiv1.ServerMessage{Message: &apiv1.ServerMessage_Welcome{Welcome: &apiv1.Welcome{Server: f.name, Servers: f.servers}}}
	case m.GetHeartbeat() != nil:
		return &apiv1.ServerMessage{Message: &apiv1.ServerMessage_Heartbeat{Heartbeat: f.beat()}}
	case m.GetRegistrations() != nil:
		r := &apiv1.RegistrationsResult{Sequence: m.GetRegistrations().GetSequence(), Error: f.refusal}
		return &apiv1.ServerMessage{Message: &apiv1.ServerMessage_Registrations{Registrations: r}}
	}
	return nil
}

func (f *fakeServer) beat() *apiv1.Heartbeat {
	if f.clock == nil {
		return &apiv1.Heartbeat{}
	}
	return &apiv1.Heartbeat{TimeUnixNano: f.clock()}
}

func (f *fakeServer) Sign(context.Context, *apiv1.SignRequest) (*apiv1.SignReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.signed++
	return &apiv1.SignReply{Certificates: []*apiv1.Certificate{{Error: "by " + f.name}}}, nil
}

func (f *fakeServer) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// push sends an update down every open stream.
func (f *fakeServer) push(t *testing.T, u *apiv1.SliceUpdate) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.streams {
		if err := s.Send(&apiv1.ServerMessage{Message: &apiv1.ServerMessage_Slice{Slice: u}}); err != nil {
			t.Error(err)
		}
	}
}

// messages gives what pick finds in all that came since the last call.
func messages[T any](f *fakeServer, pick func(*apiv1.AgentMessage) *T) (found []*T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var rest []*apiv1.AgentMessage
	for _, m := range f.got {
		if v := pick(m); v != nil {
			found = append(found, v)
		} else {
			rest = append(rest, m)
		}
	}
	f.got = rest
	return found
}

func connections(f *fakeServer) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.streams)
}

// A world is a client and the servers that it can reach.
type world struct {
	t       *testing.T
	mu      sync.Mutex
	up      map[string]*bufconn.Listener
	servers map[string]*grpc.Server
	client  *Client
}

func newWorld(t *testing.T) *world {
	return &world{t: t, up: map[string]*bufconn.Listener{}, servers: map[string]*grpc.Server{}}
}

func (w *world) start(address string, f *fakeServer) {
	l := bufconn.Listen(1 << 16)
	g := grpc.NewServer()
	apiv1.RegisterControlServer(g, f)
	go g.Serve(l)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up[address], w.servers[address] = l, g
}

func (w *world) kill(address string) {
	w.mu.Lock()
	g := w.servers[address]
	delete(w.up, address)
	delete(w.servers, address)
	w.mu.Unlock()
	if g != nil {
		g.Stop()
	}
}

func (w *world) dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			w.mu.Lock()
			l := w.up[address]
			w.mu.Unlock()
			if l == nil {
				return nil, &net.OpError{Op: "dial", Err: net.UnknownNetworkError("nobody there")}
			}
			return l.DialContext(ctx)
		}))
}

func (w *world) connect(cfg Config) *Client {
	cfg.Dial = w.dial
	cfg.Hello = &apiv1.Hello{ClusterId: "c1", Address: "10.0.0.1"}
	if cfg.Slice == nil {
		cfg.Slice = slice.Empty()
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	w.client = New(cfg)
	w.client.Start()
	return w.client
}

func (w *world) close() {
	w.client.Stop()
	w.mu.Lock()
	addresses := slices.Collect(func(yield func(string) bool) {
		for a := range w.servers {
			if !yield(a) {
				return
			}
		}
	})
	w.mu.Unlock()
	for _, a := range addresses {
		w.kill(a)
	}
}

// bubble runs a test of one client and its servers in fake time.
func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		test(t, w)
		w.close()
	})
}
