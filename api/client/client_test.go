package client

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
)

type fakeAdmin struct {
	apiv1.UnimplementedAdminServer
}

func (fakeAdmin) Status(ctx context.Context, _ *apiv1.StatusRequest) (*apiv1.StatusReply, error) {
	return &apiv1.StatusReply{Index: 7}, nil
}

func (fakeAdmin) Delete(ctx context.Context, r *apiv1.DeleteRequest) (*apiv1.DeleteReply, error) {
	if r.Name == "slow" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, status.Error(codes.NotFound, "there is no route: see meshd get")
}

// serve runs a fake server on a unix socket.
func serve(t *testing.T) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	apiv1.RegisterAdminServer(s, fakeAdmin{})
	done := make(chan struct{})
	go func() { s.Serve(l); close(done) }()
	c, err := Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Stop(); <-done })
	return c
}

func TestCalls(t *testing.T) {
	c := serve(t)
	reply, err := c.Admin().Status(t.Context(), &apiv1.StatusRequest{})
	if err != nil || reply.Index != 7 {
		t.Errorf("Status gave %v, %v", reply, err)
	}
}

func TestErrorsAreForPeople(t *testing.T) {
	c := serve(t)
	f := func(call func(context.Context) error, code codes.Code, want string) {
		t.Helper()
		err := call(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "rpc error") {
			t.Errorf("got %q, want %q", err, want)
		}
		if status.Code(err) != code {
			t.Errorf("got code %v, want %v", status.Code(err), code)
		}
	}
	remove := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := c.Admin().Delete(ctx, &apiv1.DeleteRequest{Name: name})
			return err
		}
	}
	f(remove("x"), codes.NotFound, "there is no route: see meshd get")
	f(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		return remove("slow")(ctx)
	}, codes.DeadlineExceeded, "no answer in time")
	f(func(ctx context.Context) error {
		_, err := c.Local().LocalStatus(ctx, &apiv1.LocalStatusRequest{})
		return err
	}, codes.Unimplemented, "does not know that request")
}

func TestNobodyListens(t *testing.T) {
	f := func(socket string, dial error, want string) {
		t.Helper()
		refuse := func(context.Context, string, string) (net.Conn, error) { return nil, dial }
		var opts []Option
		if dial != nil {
			opts = append(opts, WithDialer(refuse))
		}
		_, err := Dial(t.Context(), socket, opts...)
		var unavailable *UnavailableError
		if !errors.As(err, &unavailable) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	absent := filepath.Join(t.TempDir(), "absent.sock")
	f(absent, nil, "no meshd server runs on this host ("+absent+": there is no such socket): start it with: systemctl start meshd-server")
	refused := filepath.Join(t.TempDir(), "refused.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: refused, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	f(refused, nil, "no meshd server runs on this host ("+refused+": nobody listens there): start it with: systemctl start meshd-server")
	f(AgentSocket, errors.New("boom"), "no meshd agent runs on this host ("+AgentSocket+": boom): start it with: systemctl start meshd-agent")
	f(ServerSocket, &net.OpError{Op: "dial", Err: syscall.EACCES}, ServerSocket+" may not be opened by this user: run it as root")
}

func TestSockets(t *testing.T) {
	f := func(env, admin, local string) {
		t.Helper()
		t.Setenv(SocketEnv, env)
		if a, l := AdminSocket(), LocalSocket(); a != admin || l != local {
			t.Errorf("with %q the sockets are %s and %s, want %s and %s", env, a, l, admin, local)
		}
	}
	dir := t.TempDir()
	server, agent := filepath.Join(dir, "server.sock"), filepath.Join(dir, "agent.sock")
	touch := func(path string) {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f("/x.sock", "/x.sock", "/x.sock")
	f(dir, server, agent)
	touch(agent)
	f(dir, agent, agent)
	touch(server)
	f(dir, server, agent)
}
