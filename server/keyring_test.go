package server_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/meshtest"
)

func gossipKeys(t *testing.T, s *meshtest.Server) *apiv1.ListGossipKeysReply {
	t.Helper()
	reply, err := s.Admin().ListGossipKeys(t.Context(), &apiv1.ListGossipKeysRequest{})
	if err != nil {
		t.Fatalf("the keys of %s: %v", s.Name, err)
	}
	return reply
}

// onlyKey checks that those servers use one key, the given one.
func onlyKey(t *testing.T, s *meshtest.Server, fingerprint string, servers ...string) {
	t.Helper()
	reply := gossipKeys(t, s)
	if len(reply.Keys) != 1 || reply.Keys[0].Fingerprint != fingerprint || !reply.Keys[0].Primary || !slices.Equal(reply.Keys[0].Servers, servers) {
		t.Errorf("the keys are %v, want %s on %q", reply.Keys, fingerprint, servers)
	}
}

func seesAllAlive(t *testing.T, m *meshtest.Mesh) bool {
	t.Helper()
	for _, s := range m.Servers {
		reply, err := s.Admin().Status(t.Context(), &apiv1.StatusRequest{})
		if err != nil || slices.ContainsFunc(reply.Servers, func(s *apiv1.ServerStatus) bool { return !s.Alive }) {
			return false
		}
	}
	return true
}

// While the keys change nobody is taken for dead, and the copies on disk, which
// only their owner can read, are those that a server starts with.
func TestGossipKeysRotate(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		before := gossipKeys(t, m.Leader()).Keys[0].Fingerprint
		onlyKey(t, m.Follower(), before, "s1", "s2", "s3")
		seesAllAlive(t, m) // connected before it is asked from two sides
		done := make(chan struct{})
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for ; ; time.Sleep(200 * time.Millisecond) {
				if !seesAllAlive(t, m) {
					t.Error("somebody was taken for dead")
				}
				select {
				case <-done:
					return
				default:
				}
			}
		}()
		reply, err := m.Follower().Admin().RotateGossipKey(t.Context(), &apiv1.RotateGossipKeyRequest{})
		if err != nil || reply.Fingerprint == before {
			t.Fatalf("rotating gave %v, %v", reply, err)
		}
		onlyKey(t, m.Leader(), reply.Fingerprint, "s1", "s2", "s3")
		time.Sleep(10 * time.Second) // longer than it takes to see a death
		close(done)
		<-watched
		if gossipKeys(t, m.Leader()).RotatedUnix == 0 {
			t.Error("the time of the rotation was not kept")
		}
		for _, s := range m.Servers {
			info, err := os.Stat(filepath.Join(s.Config().DataDir, "gossip.key"))
			if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
				t.Errorf("the copy of %s: %v, %v", s.Name, info, err)
			}
			s.Stop()
		}
		for _, s := range m.Servers {
			s.Restart()
		}
		m.WaitFor("all to see each other", func() bool { return m.FindLeader() != nil && seesAllAlive(t, m) })
	})
}

// A server that was away gets the keys by Raft, and gossips again with them.
func TestAServerThatMissedARotationOfGossipKeys(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		away := m.Follower()
		away.Crash()
		m.WaitFor("its death", func() bool { return !raftPeer(t, m.Leader(), away.Name).Alive })
		var last string
		for range 2 {
			reply, err := m.Leader().Admin().RotateGossipKey(t.Context(), &apiv1.RotateGossipKeyRequest{})
			if err != nil {
				t.Fatal(err)
			}
			last = reply.Fingerprint
		}
		away.Restart()
		m.WaitFor("all to see each other", func() bool { return seesAllAlive(t, m) })
		onlyKey(t, away, last, "s1", "s2", "s3")
		m.AddServer("s4")
		m.WaitFor("a new one too", func() bool { return seesAllAlive(t, m) })
	})
}

// A rotation that lost its leader half-way is taken up by the next one.
func TestARotationOutlivesItsLeader(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		leader := m.Leader()
		rest := slices.DeleteFunc(slices.Clone(m.Servers), func(s *meshtest.Server) bool { return s == leader })
		lost, admin := make(chan struct{}), rest[0].Admin()
		go func() {
			defer close(lost)
			for keys := 1; keys == 1; time.Sleep(10 * time.Millisecond) {
				if reply, err := admin.ListGossipKeys(t.Context(), &apiv1.ListGossipKeysRequest{}); err == nil {
					keys = len(reply.Keys)
				}
			}
			leader.Crash()
		}()
		reply, err := rest[0].Admin().RotateGossipKey(t.Context(), &apiv1.RotateGossipKeyRequest{})
		<-lost
		if err != nil {
			reply, err = rest[0].Admin().RotateGossipKey(t.Context(), &apiv1.RotateGossipKeyRequest{})
		}
		if err != nil {
			t.Fatalf("the rotation came to %v", err)
		}
		onlyKey(t, rest[1], reply.Fingerprint, rest[0].Name, rest[1].Name)
		leader.Restart()
		m.WaitFor("all to see each other", func() bool { return seesAllAlive(t, m) })
		onlyKey(t, leader, reply.Fingerprint, "s1", "s2", "s3")
	})
}
