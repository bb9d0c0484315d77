package server_test

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/server"
)

// systemConfig is for a server on the machine's loopback interface.
func systemConfig(t *testing.T, name string) server.Config {
	t.Helper()
	dir := t.TempDir()
	c := server.Config{
		Name: name, DataDir: filepath.Join(dir, "server"), Socket: filepath.Join(dir, "s.sock"),
		Listen: freeAddress(t), GossipListen: freeAddress(t), HTTP: freeAddress(t),
		Network: netx.System{}, Logger: slog.New(slog.DiscardHandler), // gossip has something to say after the test has ended
	}
	c.Advertise, c.GossipAdvertise = c.Listen, c.GossipListen
	return c
}

// freeAddress is one that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a server until the test ends and connects to its socket.
func start(t *testing.T, c server.Config) apiv1.AdminClient {
	t.Helper()
	s, err := server.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	select {
	case <-s.Ready():
	case <-time.After(30 * time.Second):
		t.Fatalf("%s did not become ready", c.Name)
	}
	cl, err := client.Dial(t.Context(), c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	return cl.Admin()
}

// The same on real sockets, disks and users, once.
func TestOnTheMachinesOwnNetwork(t *testing.T) {
	first, second := systemConfig(t, "s1"), systemConfig(t, "s2")
	if err := server.Init(first, server.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	admin := start(t, first)
	token, err := admin.CreateToken(t.Context(), &apiv1.CreateTokenRequest{Server: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Join(t.Context(), second, token.Token); err != nil {
		t.Fatal(err)
	}
	other := start(t, second)
	for i, a := range []apiv1.AdminClient{admin, other} {
		if _, err := a.Apply(t.Context(), &apiv1.ApplyRequest{Resources: []*apiv1.Resource{service(fmt.Sprintf("svc-%d", i))}}); err != nil {
			t.Error(err)
		}
	}
	for _, a := range []apiv1.AdminClient{admin, other} {
		reply, err := a.GetResources(t.Context(), &apiv1.GetResourcesRequest{})
		if err != nil || len(reply.Resources) != 2 {
			t.Errorf("reading gave %v, %v", reply, err)
		}
	}
}
