package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/server"
	"github.com/meshd/meshd/store"
)

func (m *fakeMesh) RaftPeers(_ context.Context, r *apiv1.RaftPeersRequest) (*apiv1.RaftPeersReply, error) {
	return &apiv1.RaftPeersReply{FailureTolerance: 1, FeatureLevel: 2, Peers: []*apiv1.RaftPeer{
		{Name: "vm2", Address: "10.0.0.2:7300", Voter: true, Left: true, LastIndex: 7, Version: "1.0.0", Problem: "it was stopped"},
		{Name: "vm1", Address: "10.0.0.1:7300", Leader: true, Voter: true, Alive: true, Healthy: true, LastIndex: 9, Version: "1.0.0", LastContact: durationpb.New(0)},
		{Name: "vm3", Address: "10.0.0.3:7300", Alive: true, Healthy: true, LastIndex: 9, Version: "1.0.0", LastContact: durationpb.New(80 * time.Millisecond)},
	}}, m.note(r)
}

func (m *fakeMesh) RemoveServer(_ context.Context, r *apiv1.RemoveServerRequest) (*apiv1.RemoveServerReply, error) {
	if !r.Force {
		return nil, status.Error(codes.FailedPrecondition, "the mesh cannot spare it")
	}
	return &apiv1.RemoveServerReply{}, m.note(r)
}

func (m *fakeMesh) TransferLeadership(_ context.Context, r *apiv1.TransferLeadershipRequest) (*apiv1.TransferLeadershipReply, error) {
	return &apiv1.TransferLeadershipReply{Leader: "vm2"}, m.note(r)
}

func (m *fakeMesh) RemoveHost(_ context.Context, r *apiv1.RemoveHostRequest) (*apiv1.RemoveHostReply, error) {
	return &apiv1.RemoveHostReply{}, m.note(r)
}

func (m *fakeMesh) ListGossipKeys(_ context.Context, r *apiv1.ListGossipKeysRequest) (*apiv1.ListGossipKeysReply, error) {
	return &apiv1.ListGossipKeysReply{RotatedUnix: 1000, Keys: []*apiv1.GossipKey{
		{Fingerprint: "0a1b", Primary: true, Servers: []string{"vm1", "vm2"}}, {Fingerprint: "2c3d", Servers: []string{"vm1"}},
	}}, m.note(r)
}

func (m *fakeMesh) RotateGossipKey(_ context.Context, r *apiv1.RotateGossipKeyRequest) (*apiv1.RotateGossipKeyReply, error) {
	return &apiv1.RotateGossipKeyReply{Fingerprint: "4e5f"}, m.note(r)
}

func TestRaftCommands(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	m.want(t, `SERVER  ADDRESS        ROLE         HEALTH   INDEX  CONTACT  VERSION
vm1     10.0.0.1:7300  leader       well     9      0s       1.0.0
vm2     10.0.0.2:7300  voter        stopped  7      -        1.0.0
vm3     10.0.0.3:7300  no vote yet  well     9      80ms     1.0.0

may be lost    1 voter, and writes go on
feature level  2

vm2  it was stopped
`, "raft", "peers")
	m.want(t, "vm2 leads\n", "raft", "transfer", "vm2")
	if r := m.last().(*apiv1.TransferLeadershipRequest); r.Name != "vm2" {
		t.Errorf("asked for %v", r)
	}
	if _, stderr, exit := m.command(t, "raft", "remove", "vm3"); exit != exitFailure || !strings.Contains(stderr, "cannot spare") || !strings.Contains(stderr, unchanged) {
		t.Errorf("exit %d\n%s", exit, stderr)
	}
	if stdout, _, exit := m.command(t, "raft", "remove", "vm3", "--force"); exit != 0 || !strings.Contains(stdout, "meshd ca rotate") {
		t.Errorf("exit %d\n%s", exit, stdout)
	}
	m.want(t, "host vm7 removed\n", "members", "remove", "vm7", "--force")
	if r := m.last().(*apiv1.RemoveHostRequest); r.Name != "vm7" || !r.Force {
		t.Errorf("asked for %v", r)
	}
	for _, line := range [][]string{{"raft", "remove"}, {"raft", "transfer", "a", "b"}, {"members", "remove"}, {"keyring", "rotate", "now"}, {"recover", "now"}} {
		if _, stderr, exit := m.command(t, line...); exit != exitUsage {
			t.Errorf("%q: exit %d\n%s", line, exit, stderr)
		}
	}
}

func TestKeyringCommands(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	m.want(t, `KEY   USE         SINCE                 SERVERS
0a1b  sends       1970-01-01T00:16:40Z  vm1,vm2
2c3d  understood  -                     vm1
`, "keyring", "list")
	m.want(t, "all servers that are alive use the key 4e5f alone\n", "keyring", "rotate")
}

func TestRecoveryIsNotForThoseWhoHaveAMajority(t *testing.T) {
	three := []store.Member{{ID: "1", Address: "a:1", Voter: true}, {ID: "2", Address: "b:1", Voter: true}, {ID: "3", Address: "c:1", Voter: true}}
	f := func(members []store.Member, reachable []string, want bool) {
		t.Helper()
		r := server.Recovery{Contents: store.Contents{Members: members}, Reachable: reachable}
		if got := r.Majority(); got != want {
			t.Errorf("%d members, %q there: %v", len(members), reachable, got)
		}
	}
	f(three, nil, false)
	f(three, []string{"b:1"}, true)
	f(three[:1], nil, true)
	f(three[:2], nil, false)
}

func TestWhatMayBeLost(t *testing.T) {
	f := func(want string, r *apiv1.RaftPeersReply) {
		t.Helper()
		if got := spare(r); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %q, want %q", r, got, want)
		}
	}
	led := []*apiv1.RaftPeer{{Name: "vm1", Leader: true}, {Name: "vm2"}}
	f("2 voters, and writes go on", &apiv1.RaftPeersReply{Peers: led, FailureTolerance: 2})
	f("none: without one more voter", &apiv1.RaftPeersReply{Peers: led})
	f("none: there is no leader", &apiv1.RaftPeersReply{Peers: led[1:]})
}
