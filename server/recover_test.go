package server_test

import (
	"slices"
	"strings"
	"testing"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/meshtest"
	"github.com/meshd/meshd/server"
)

// lose ends all servers but the first and recovers the mesh on that one.
func lose(t *testing.T, m *meshtest.Mesh) (left *meshtest.Server) {
	t.Helper()
	left = m.Servers[0]
	for _, s := range m.Servers[1:] {
		s.Crash()
	}
	m.WaitFor("the last one to lead no more", func() bool { return !left.Leads() })
	left.Stop()
	plan, err := server.InspectRecovery(t.Context(), left.Config().DataDir, left.Host)
	if err != nil || plan.Name != left.Name || len(plan.Contents.Members) != 3 || len(plan.Reachable) != 0 || plan.Majority() || plan.Contents.LastIndex == 0 {
		t.Fatalf("before the recovery: %+v, %v", plan, err)
	}
	for _, again := range []bool{false, true} {
		done, err := server.Recover(left.Config().DataDir)
		if err != nil || done.Recovery != 1 || done.Already != again || done.Backup == "" {
			t.Fatalf("recovering gave %+v, %v", done, err)
		}
	}
	left.Restart()
	<-left.Ready()
	return left
}

// Two of three servers are lost for good. The third goes on with what it has, new
// ones join it, and agents notice nothing.
func TestRecoveryFromALostMajority(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		apply(t, m.Leader(), service("orders"))
		h := m.JoinFakeAgent("h1")
		lost := slices.Clone(m.Servers[1:])
		left := lose(t, m)
		m.Servers = m.Servers[:1]
		apply(t, left, service("after"))
		if got := resources(t, left, false); !slices.Contains(got, "orders") || !slices.Contains(got, "after") {
			t.Errorf("recovered: %v", got)
		}
		stream := h.Connect(left)
		m.WaitFor("the agent's slice", func() bool { return len(stream.Updates()) > 0 })
		reply, err := left.Admin().Status(t.Context(), &apiv1.StatusRequest{})
		if err != nil || len(reply.Servers) != 1 || reply.Cluster.Recovery != 1 {
			t.Errorf("status is %v, %v", reply, err)
		}
		for range lost {
			m.AddServer("s" + string(rune('4'+len(m.Servers))))
		}
		m.WaitFor("three voters", func() bool { return len(votersOf(t, m.Leader())) == 3 })
		left.Crash()
		apply(t, m.Servers[1], service("without-"+left.Name))
		for _, s := range lost {
			s.Stop()
		}
	})
}

// Those that a recovery left behind, though they are a majority of what was, learn
// so from the recovered one, take no part, and can join anew.
func TestWhatARecoveryLeftBehindStaysOut(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		behind := slices.Clone(m.Servers[1:])
		left := lose(t, m)
		for _, s := range behind {
			s.Restart()
		}
		for _, s := range behind {
			m.WaitFor(s.Name+" to know", func() bool {
				reply, err := s.Admin().Status(t.Context(), &apiv1.StatusRequest{})
				return err == nil && strings.Contains(reply.Problem, "left behind by a recovery") && strings.Contains(reply.Problem, "join it again") && !s.Leads()
			})
		}
		m.Servers = m.Servers[:1]
		apply(t, left, service("after"))
		if reply, err := left.Admin().Members(t.Context(), &apiv1.MembersRequest{}); err != nil || len(reply.Servers) != 1 {
			t.Errorf("the recovered mesh has %v, %v", reply, err)
		}
		for _, s := range behind {
			s.Stop()
			if _, err := server.New(s.Config()); err == nil || !strings.Contains(err.Error(), "left behind") {
				t.Errorf("%s was started again: %v", s.Name, err)
			}
		}
		m.AddServer("s2b")
		m.WaitFor("its vote", func() bool { return len(votersOf(t, m.Leader())) == 2 })
	})
}

// A recovery is refused while the others are there: it would cost what they have.
func TestRecoverySeesWhoIsThere(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Follower()
		if _, err := server.Recover(s.Config().DataDir); err == nil {
			t.Error("a running server was recovered")
		}
		s.Stop()
		plan, err := server.InspectRecovery(t.Context(), s.Config().DataDir, s.Host)
		if err != nil || len(plan.Reachable) != 2 || !plan.Majority() {
			t.Errorf("with the others there: %+v, %v", plan, err)
		}
		if _, err := server.InspectRecovery(t.Context(), t.TempDir(), memnet.New().Host("x", s.Host.IP())); err == nil {
			t.Error("an empty directory was looked into")
		}
	})
}
