package server_test

import (
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/meshtest"
	"github.com/meshd/meshd/server"
	"github.com/meshd/meshd/store/command"
)

// versions are what the servers of a mesh know, by name.
type versions struct {
	mu    sync.Mutex
	level map[string]uint32
}

func (v *versions) set(name string, level uint32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.level[name] = level
}

func (v *versions) configure(c *server.Config) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c.FeatureLevel = v.level[c.Name]
}

func levelOf(t *testing.T, s *meshtest.Server) uint32 {
	t.Helper()
	reply, err := s.Admin().RaftPeers(t.Context(), &apiv1.RaftPeersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return reply.FeatureLevel
}

// A mesh is updated server by server. Until the last one is, nothing is written
// that it would not know, and what needs that says which server to update.
func TestRollingUpdate(t *testing.T) {
	old := &versions{level: map[string]uint32{"s1": 1, "s2": 1, "s3": 1}}
	bubbleWith(t, 3, old.configure, func(t *testing.T, m *meshtest.Mesh) {
		h := m.JoinFakeAgent("h1")
		stream := h.Connect(m.Servers[2])
		m.WaitFor("its slice", func() bool { return len(stream.Updates()) > 0 })
		rotate := func(s *meshtest.Server) error {
			_, err := s.Admin().RotateGossipKey(t.Context(), &apiv1.RotateGossipKeyRequest{})
			return err
		}
		for i, s := range m.Servers {
			apply(t, s, service("before-"+s.Name)) // not recorded: the old would not know how
			if level := levelOf(t, s); level != 1 {
				t.Fatalf("the level is %d with servers of the first", level)
			}
			if err := rotate(s); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "update") || !strings.Contains(err.Error(), `"s`) {
				t.Errorf("with an old server a rotation gave %v", err)
			}
			if i == len(m.Servers)-1 && !strings.Contains(rotate(m.Servers[0]).Error(), s.Name) {
				t.Errorf("the last old server is not named: %v", rotate(m.Servers[0]))
			}
			s.Stop()
			old.set(s.Name, command.MaxLevel)
			s.Restart()
			<-s.Ready()
			if i < len(m.Servers)-1 {
				m.WaitFor("the others to know", func() bool { return raftPeer(t, m.Leader(), s.Name).FeatureLevel == command.MaxLevel })
			}
		}
		m.WaitFor("the level to rise", func() bool { return levelOf(t, m.Leader()) == command.MaxLevel })
		m.WaitFor("the keys to be in the state", func() bool { return rotate(m.Leader()) == nil })
		apply(t, m.Leader(), service("after"))
		audit, err := m.Leader().Admin().Audit(t.Context(), &apiv1.AuditRequest{Action: "apply"})
		if err != nil || len(audit.Records) != 1 {
			t.Errorf("on record is %v, %v", audit, err)
		}
	})
}

// A server that knows less than the mesh writes is not let in.
func TestAnOldServerCannotJoin(t *testing.T) {
	old := &versions{level: map[string]uint32{"s2": 1}}
	bubbleWith(t, 1, old.configure, func(t *testing.T, m *meshtest.Mesh) {
		host := m.Host("s2")
		c := m.Servers[0].Config()
		c.Name, c.DataDir, c.Network, c.FeatureLevel = "s2", m.Dir("s2", "server"), host, 1
		c.Advertise, c.GossipAdvertise = host.IP().String()+":7300", host.IP().String()+":7301"
		token := m.CreateToken(&apiv1.CreateTokenRequest{Server: true})
		if err := server.Join(t.Context(), c, token); err == nil || !strings.Contains(err.Error(), "update that server") {
			t.Errorf("an old server's join gave %v", err)
		}
		c.FeatureLevel = 0
		if err := server.Join(t.Context(), c, token); err != nil {
			t.Errorf("updated, it could not join with the same token: %v", err)
		}
	})
}
