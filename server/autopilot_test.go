package server_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/meshtest"
	"github.com/meshd/meshd/server"
)

// raftPeer is what a server says of another one in Raft, nil if it knows none of
// that name.
func raftPeer(t *testing.T, s *meshtest.Server, name string) *apiv1.RaftPeer {
	t.Helper()
	reply, err := s.Admin().RaftPeers(t.Context(), &apiv1.RaftPeersRequest{})
	if err != nil {
		t.Fatalf("asking %s: %v", s.Name, err)
	}
	i := slices.IndexFunc(reply.Peers, func(p *apiv1.RaftPeer) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return reply.Peers[i]
}

// The first three servers vote as soon as they have proved themselves; those
// after them must have been well for a while.
func TestServersAfterTheThirdWaitForTheirVote(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		fourth := m.AddServer("s4")
		added := time.Now()
		m.WaitFor("the fourth to be well", func() bool {
			p := raftPeer(t, m.Leader(), "s4")
			return p != nil && p.Healthy
		})
		if p := raftPeer(t, fourth, "s4"); p.Voter || p.Problem != "" {
			t.Errorf("early: %v", p)
		}
		m.WaitFor("the fourth to vote", func() bool { return raftPeer(t, fourth, "s4").Voter })
		if took := time.Since(added); took < 10*time.Second || took > 20*time.Second {
			t.Errorf("it votes after %v", took)
		}
		reply, err := fourth.Admin().RaftPeers(t.Context(), &apiv1.RaftPeersRequest{})
		if err != nil || reply.FailureTolerance != 1 || reply.FeatureLevel < 2 {
			t.Errorf("the mesh is %v, %v", reply, err)
		}
		for _, p := range reply.Peers {
			if !p.Healthy || !p.Alive || p.LastIndex == 0 || p.HealthySinceUnix == 0 || p.Problem != "" {
				t.Errorf("a healthy server: %v", p)
			}
		}
	})
}

// A server that is dead for long makes way for the one that has taken its place.
// Fewer than three are never left, and one that was stopped is not dead.
func TestDeadServersAreRemoved(t *testing.T) {
	bubbleWith(t, 3, func(c *server.Config) { c.Autopilot.DeadAfter = time.Minute }, func(t *testing.T, m *meshtest.Mesh) {
		m.AddServer("s4")
		m.WaitFor("the fourth to vote", func() bool { return raftPeer(t, m.Leader(), "s4").Voter })
		stopped := m.Follower()
		stopped.Stop()
		time.Sleep(2 * time.Minute)
		if p := raftPeer(t, m.Leader(), stopped.Name); p == nil || !p.Left || p.Healthy || p.Problem != "it was stopped" {
			t.Errorf("long after it was stopped: %v", p)
		}
		stopped.Restart()
		<-stopped.Ready()

		dead := m.Follower()
		dead.Crash()
		time.Sleep(50 * time.Second)
		if p := raftPeer(t, m.Leader(), dead.Name); p == nil || p.Healthy || p.Alive || !strings.Contains(p.Problem, "does not answer") {
			t.Errorf("soon after it died: %v", p)
		}
		time.Sleep(30 * time.Second)
		if p := raftPeer(t, m.Leader(), dead.Name); p != nil {
			t.Errorf("long after it died: %v", p)
		}
		audit, err := m.Leader().Admin().Audit(t.Context(), &apiv1.AuditRequest{Action: "raft remove"})
		if err != nil || len(audit.Records) != 1 || audit.Records[0].Objects[0] != "server/"+dead.Name || !strings.HasPrefix(audit.Records[0].Actor, "server/") {
			t.Errorf("on record is %v, %v", audit, err)
		}

		another := m.Follower()
		another.Crash()
		time.Sleep(2 * time.Minute)
		if p := raftPeer(t, m.Leader(), another.Name); p == nil || !p.Voter {
			t.Errorf("one of the last three was removed: %v", p)
		}
		apply(t, m.Leader(), service("orders"))
	})
}

func TestRemovalRules(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		m.WaitFor("all to be well", func() bool {
			reply, err := m.Leader().Admin().RaftPeers(t.Context(), &apiv1.RaftPeersRequest{})
			return err == nil && reply.FailureTolerance == 1
		})
		f := func(at *meshtest.Server, name string, force bool, code codes.Code, want string) {
			t.Helper()
			_, err := at.Admin().RemoveServer(t.Context(), &apiv1.RemoveServerRequest{Name: name, Force: force})
			if status.Code(err) != code || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("removing %s gave %v", name, err)
			}
		}
		leader, follower := m.Leader(), m.Follower()
		f(leader, "s9", false, codes.NotFound, "meshd raft peers")
		f(follower, follower.Name, false, codes.FailedPrecondition, "could not lose one more")
		f(follower, leader.Name, false, codes.FailedPrecondition, "--force")
		f(follower, leader.Name, true, codes.OK, "") // hands over first
		isGone(t, m, leader)
		f(follower, m.Leader().Name, false, codes.OK, "")
	})
}

// isGone waits until a running server has learned that it was removed, and checks
// that it stays out.
func isGone(t *testing.T, m *meshtest.Mesh, s *meshtest.Server) {
	t.Helper()
	m.WaitFor(s.Name+" to know that it was removed", func() bool {
		reply, err := s.Admin().Status(t.Context(), &apiv1.StatusRequest{})
		return err == nil && strings.Contains(reply.Problem, "removed") && !s.Leads()
	})
	if body := get(t, s, "/healthz"); !strings.Contains(body, "join it again") {
		t.Errorf("healthz of %s says %q", s.Name, body)
	}
	m.Servers = slices.DeleteFunc(m.Servers, func(o *meshtest.Server) bool { return o == s })
	apply(t, m.Leader(), service("without-"+s.Name))
	s.Stop()
	if _, err := server.New(s.Config()); err == nil || !strings.Contains(err.Error(), "removed") {
		t.Errorf("%s was started again: %v", s.Name, err)
	}
}

// A server that was away when it was removed learns so from the others.
func TestAServerRemovedWhileItWasAway(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		away := m.Follower()
		away.Crash()
		m.WaitFor("its death", func() bool { return !raftPeer(t, m.Leader(), away.Name).Alive })
		if _, err := m.Leader().Admin().RemoveServer(t.Context(), &apiv1.RemoveServerRequest{Name: away.Name}); err != nil {
			t.Fatal(err) // nothing is lost with one that is dead
		}
		m.WaitFor("Raft to be without it", func() bool { return len(votersOf(t, m.Leader())) == 2 })
		away.Restart()
		isGone(t, m, away)
	})
}

func votersOf(t *testing.T, s *meshtest.Server) (names []string) {
	t.Helper()
	reply, err := s.Admin().RaftPeers(t.Context(), &apiv1.RaftPeersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range reply.Peers {
		if p.Voter {
			names = append(names, p.Name)
		}
	}
	return names
}

func TestTransferLeadership(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		f := func(at *meshtest.Server, name, want string) {
			t.Helper()
			reply, err := at.Admin().TransferLeadership(t.Context(), &apiv1.TransferLeadershipRequest{Name: name})
			if err != nil || want != "" && reply.Leader != want {
				t.Errorf("handing over to %q gave %v, %v", name, reply, err)
			}
			m.WaitFor("the new leader", func() bool { l := m.FindLeader(); return l != nil && l.Name == reply.GetLeader() })
		}
		follower := m.Follower()
		f(follower, follower.Name, follower.Name)
		f(follower, follower.Name, follower.Name) // leads already
		before := m.Leader().Name
		f(m.Follower(), "", "")
		if m.Leader().Name == before {
			t.Error("it stayed")
		}
		if _, err := m.Leader().Admin().TransferLeadership(t.Context(), &apiv1.TransferLeadershipRequest{Name: "s9"}); status.Code(err) != codes.NotFound {
			t.Errorf("handing over to nobody gave %v", err)
		}
	})
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		if _, err := m.Leader().Admin().TransferLeadership(t.Context(), &apiv1.TransferLeadershipRequest{}); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("handing over to nobody gave %v", err)
		}
	})
}

func TestHostsAreRemoved(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		h := m.JoinFakeAgent("h1")
		stream := h.Connect(m.Servers[0])
		m.WaitFor("the host", func() bool { return len(stream.Updates()) > 0 })
		f := func(name string, force bool, want codes.Code) {
			t.Helper()
			_, err := m.Leader().Admin().RemoveHost(t.Context(), &apiv1.RemoveHostRequest{Name: name, Force: force})
			if status.Code(err) != want {
				t.Errorf("removing host %s gave %v", name, err)
			}
		}
		f("h9", false, codes.NotFound)
		f("h1", false, codes.FailedPrecondition)
		f("h1", true, codes.OK)
		f("h1", true, codes.NotFound)
	})
}
