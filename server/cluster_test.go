package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/meshtest"
	"github.com/meshd/meshd/server"
)

// bubble runs a test of a mesh with that many servers.
func bubble(t *testing.T, servers int, test func(*testing.T, *meshtest.Mesh)) {
	t.Helper()
	bubbleWith(t, servers, nil, test)
}

// bubbleWith does so with servers that run with something else than the usual.
func bubbleWith(t *testing.T, servers int, configure func(*server.Config), test func(*testing.T, *meshtest.Mesh)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t)
		m.Configure = configure
		m.StartServers(servers)
		test(t, m)
	})
}

// service is a resource to write and find again.
func service(name string) *apiv1.Resource {
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Service{Service: &apiv1.Service{Protocol: apiv1.Protocol_PROTOCOL_HTTP}}}
}

// apply writes resources at a server and fails the test if they are refused.
func apply(t *testing.T, s *meshtest.Server, resources ...*apiv1.Resource) {
	t.Helper()
	if err := tryApply(s, resources...); err != nil {
		t.Fatalf("applying at %s: %v", s.Name, err)
	}
}

func tryApply(s *meshtest.Server, resources ...*apiv1.Resource) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	reply, err := s.Admin().Apply(ctx, &apiv1.ApplyRequest{Resources: resources})
	if err == nil && len(reply.Problems) > 0 {
		err = status.Error(codes.InvalidArgument, reply.Problems[0].Message)
	}
	return err
}

// resources names the resources that a server gives.
func resources(t *testing.T, s *meshtest.Server, stale bool) (names []string) {
	t.Helper()
	reply, err := s.Admin().GetResources(t.Context(), &apiv1.GetResourcesRequest{Stale: stale})
	if err != nil {
		t.Fatalf("reading at %s: %v", s.Name, err)
	}
	for _, r := range reply.Resources {
		names = append(names, r.Name)
	}
	return names
}

func TestThreeServersFormAMesh(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		for _, s := range m.Servers {
			reply, err := s.Admin().Status(t.Context(), &apiv1.StatusRequest{})
			if err != nil {
				t.Fatal(err)
			}
			leaders := 0
			for _, other := range reply.Servers {
				if !other.Voter || !other.Alive || other.Version == "" {
					t.Errorf("%s says of %s: %v", s.Name, other.Name, other)
				}
				if other.Leader {
					leaders++
				}
			}
			if len(reply.Servers) != 3 || leaders != 1 || !strings.HasPrefix(reply.Cluster.GetName(), "mesh-") || reply.Version == "" {
				t.Errorf("%s says: %v", s.Name, reply)
			}
		}
	})
}

func TestAFollowerWritesAndReadsWhatItWrote(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		follower := m.Follower()
		apply(t, follower, service("orders"))
		if got := resources(t, follower, true); !slices.Contains(got, "orders") {
			t.Errorf("the follower that wrote has %v", got)
		}
		for _, s := range m.Servers {
			if got := resources(t, s, false); !slices.Contains(got, "orders") {
				t.Errorf("%s has %v", s.Name, got)
			}
		}
	})
}

func TestWritesGoOnWhenTheLeaderCrashes(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		apply(t, m.Leader(), service("before"))
		leader, follower := m.Leader(), m.Follower()
		crash := time.Now()
		leader.Crash()
		apply(t, follower, service("after"))
		if gap := time.Since(crash); gap > 4*time.Second {
			t.Errorf("the first write took %v after the leader crashed", gap)
		}
		leader.Restart()
		<-leader.Ready()
		if got := resources(t, leader, false); !slices.Contains(got, "before") || !slices.Contains(got, "after") {
			t.Errorf("the crashed leader came back with %v", got)
		}
	})
}

// A host that loses power leaves connections behind that look alive.
func TestWritesGoOnWhenTheLeaderVanishes(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		follower := m.Follower()
		apply(t, follower, service("before"))
		m.Net.Isolate(m.Leader().Host)
		vanished := time.Now()
		if err := tryApply(follower, service("meanwhile")); err != nil && status.Code(err) != codes.Unknown {
			t.Errorf("a write under way gave %v", err)
		}
		apply(t, follower, service("after"))
		if gap := time.Since(vanished); gap > 6*time.Second {
			t.Errorf("writes went on %v after the leader vanished", gap)
		}
	})
}

func TestALeaderThatStopsHandsOver(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		leader, follower := m.Leader(), m.Follower()
		follower.Admin() // connected before
		stopped := make(chan struct{})
		go func() { defer close(stopped); leader.Stop() }()
		for i := range 20 {
			start := time.Now()
			apply(t, follower, service(fmt.Sprintf("svc-%d", i)))
			if gap := time.Since(start); gap > 300*time.Millisecond {
				t.Errorf("a write took %v while the leader stopped", gap)
			}
			time.Sleep(50 * time.Millisecond)
		}
		<-stopped
		apply(t, follower, service("after"))
	})
}

func TestNothingIsLostWhenAllServersStopForDays(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		apply(t, m.Leader(), service("orders"))
		for _, s := range m.Servers[:2] {
			s.Stop()
		}
		m.Servers[2].Crash()
		time.Sleep(3 * 24 * time.Hour) // longer than certificates live
		for _, s := range m.Servers {
			s.Restart()
		}
		for _, s := range m.Servers {
			<-s.Ready()
			if got := resources(t, s, false); !slices.Contains(got, "orders") {
				t.Errorf("%s has %v", s.Name, got)
			}
		}
	})
}

func TestWithoutAMajority(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		apply(t, m.Leader(), service("orders"))
		left := m.Servers[0]
		for _, s := range m.Servers[1:] {
			s.Crash()
		}
		m.WaitFor("the last server to lead no more", func() bool { return !left.Leads() })
		if got := resources(t, left, true); !slices.Contains(got, "orders") {
			t.Errorf("a stale read gave %v", got)
		}
		if _, err := left.Admin().Status(t.Context(), &apiv1.StatusRequest{}); err != nil {
			t.Errorf("status gave %v", err)
		}
		_, err := left.Admin().GetResources(t.Context(), &apiv1.GetResourcesRequest{})
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "majority") {
			t.Errorf("an up-to-date read gave %v", err)
		}
		err = tryApply(left, service("after"))
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("a write gave %v", err)
		}
		if body := get(t, left, "/healthz"); !strings.Contains(body, "no leader") {
			t.Errorf("healthz says %q", body)
		}
		m.Servers[1].Restart()
		<-m.Servers[1].Ready()
		apply(t, left, service("after"))
	})
}

func TestAWriteOnAnIsolatedLeaderHasAnUnknownOutcome(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		leader := m.Leader()
		m.Net.Isolate(leader.Host)
		_, err := leader.Admin().CreateToken(t.Context(), &apiv1.CreateTokenRequest{})
		if status.Code(err) != codes.Unknown || !strings.Contains(err.Error(), "may or may not have been applied") {
			t.Errorf("creating a token gave %v", err)
		}
		m.Net.Heal()
		apply(t, leader, service("after"))
	})
}

func TestAServerThatComesBackWithAnotherAddress(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		moved := m.Follower()
		moved.Stop()
		moved.Host = m.Host(moved.Name + "-moved")
		moved.Restart()
		m.WaitFor("the others to know the new address", func() bool {
			reply, err := m.Leader().Admin().Members(t.Context(), &apiv1.MembersRequest{Stale: true})
			return err == nil && slices.ContainsFunc(reply.Servers, func(s *apiv1.ServerStatus) bool {
				return s.Name == moved.Name && s.Address == moved.Address() && s.Alive && s.Voter
			})
		})
		apply(t, moved, service("orders"))
		if got := resources(t, moved, true); !slices.Contains(got, "orders") {
			t.Errorf("the moved server has %v", got)
		}
	})
}

func TestAHostIsLetIntoNothingButCalls(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		h := m.JoinFakeAgent("h1")
		conn, err := h.TLS().Dial(t.Context(), h.Host, m.Servers[0].Address(), grpcx.Raft)
		if err == nil {
			// TLS 1.3 lets a client write before the server has judged it.
			_, err = conn.Read(make([]byte, 1))
		}
		if err == nil || err == io.EOF {
			t.Errorf("a host's certificate was taken for Raft (%v)", err)
		}
	})
}

func TestMetricsAndHealth(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Servers[0]
		if body := get(t, s, "/healthz"); body != "ok\n" {
			t.Errorf("healthz says %q", body)
		}
		metrics := get(t, s, "/metrics")
		for _, want := range []string{"meshd_build_info", "meshd_raft_is_leader 1", "meshd_server_servers 1", "meshd_server_agent_streams 0"} {
			if !strings.Contains(metrics, want) {
				t.Errorf("the metrics lack %s", want)
			}
		}
	})
}

// get asks a server over HTTP, from its own host.
func get(t *testing.T, s *meshtest.Server, path string) string {
	t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.Host.DialContext(ctx, network, address)
		},
	}
	r, err := (&http.Client{Transport: transport}).Get("http://127.0.0.1:7302" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
