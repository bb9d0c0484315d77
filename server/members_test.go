package server_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/meshtest"
	"github.com/meshd/meshd/server"
	"github.com/meshd/meshd/store/command"
)

// propose writes a command at a server, as another server would.
func propose(t *testing.T, s *meshtest.Server, msg proto.Message) *command.Result {
	t.Helper()
	entry, err := command.Encode(msg)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := apiv1.NewPeerClient(s.Peer()).Propose(t.Context(), &apiv1.ProposeRequest{Entry: entry})
	if err != nil {
		t.Fatalf("proposing: %v", err)
	}
	result := &command.Result{}
	if err := proto.Unmarshal(reply.Result, result); err != nil {
		t.Fatal(err)
	}
	if result.Refusal != command.Refusal_REFUSAL_NONE {
		t.Fatalf("the proposal was refused: %s", result.Message)
	}
	return result
}

func TestARemovedServerIsDropped(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		f := func(removed *meshtest.Server) {
			t.Helper()
			left := slices.DeleteFunc(slices.Clone(m.Servers), func(s *meshtest.Server) bool { return s == removed })
			propose(t, m.Leader(), &command.RemoveServer{Id: removed.ID()})
			m.Servers = left
			m.WaitFor("one of the others to lead without it", func() bool {
				leader := m.FindLeader()
				if leader == nil {
					return false
				}
				reply, err := leader.Admin().Status(t.Context(), &apiv1.StatusRequest{})
				return err == nil && len(reply.Servers) == len(left) && !slices.ContainsFunc(reply.Servers, func(s *apiv1.ServerStatus) bool { return !s.Voter })
			})
			removed.Stop()
			apply(t, m.Leader(), service(fmt.Sprintf("after-%s", removed.Name)))
		}
		f(m.Follower())
		f(m.Leader())
	})
}

func TestServersThatCannotJoin(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		host := m.Host("s2")
		f := func(token string, change func(*server.Config), want string) {
			t.Helper()
			c := m.Servers[0].Config()
			c.Name, c.DataDir, c.Network = "s2", t.TempDir(), host
			c.Advertise, c.GossipAdvertise = host.IP().String()+":7300", host.IP().String()+":7301"
			if change != nil {
				change(&c)
			}
			err := server.Join(t.Context(), c, token)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("joining gave %v, want %q", err, want)
			}
		}
		create := func() string { return m.CreateToken(&apiv1.CreateTokenRequest{Server: true}) }
		f("mesh1.x", nil, "damaged")
		f(m.CreateToken(&apiv1.CreateTokenRequest{}), nil, "is for hosts")
		f(create(), func(c *server.Config) { c.Name = "" }, "needs a name")
		f(create(), func(c *server.Config) { c.Name = "s1" }, `there is a server "s1" already`)
		f(create(), func(c *server.Config) { c.DataDir = m.Servers[0].Config().DataDir }, "holds server s1")
		once := create()
		f(once, nil, "")
		f(once, nil, "was used by another host")
	})
}

// Raft counts a voter for majorities whether it answers or not, so a server whose
// declared address is wrong must not become one: with one server before it, there
// would never be a majority again.
func TestAServerThatDoesNotAnswerGetsNoVote(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		host := m.Host("s2")
		c := m.Servers[0].Config()
		c.Name, c.DataDir, c.Network = "s2", m.Dir("s2", "server"), host
		c.Advertise, c.GossipAdvertise = "10.99.0.1:7300", host.IP().String()+":7301"
		start := func() *server.Server {
			s, err := server.New(c)
			if err == nil {
				err = s.Start(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		if err := server.Join(t.Context(), c, m.CreateToken(&apiv1.CreateTokenRequest{Server: true})); err != nil {
			t.Fatal(err)
		}
		status := func() *apiv1.ServerStatus {
			reply, err := m.Servers[0].Admin().Status(t.Context(), &apiv1.StatusRequest{})
			if err != nil || len(reply.Servers) != 2 {
				t.Fatal(reply, err)
			}
			return reply.Servers[slices.IndexFunc(reply.Servers, func(s *apiv1.ServerStatus) bool { return s.Name == "s2" })]
		}
		s := start()
		m.WaitFor("gossip to see the new server", func() bool { return status().Alive })
		time.Sleep(30 * time.Second)
		if status().Voter {
			t.Error("a server that does not answer has a vote")
		}
		apply(t, m.Servers[0], service("orders"))

		// Removed, and joined again with its true address, it gets its vote.
		propose(t, m.Servers[0], &command.RemoveServer{Id: s.ID()})
		s.Stop()
		c.Advertise, c.DataDir = host.IP().String()+":7300", m.Dir("s2", "again")
		if err := server.Join(t.Context(), c, m.CreateToken(&apiv1.CreateTokenRequest{Server: true})); err != nil {
			t.Fatal(err)
		}
		s = start()
		defer s.Stop()
		began := time.Now()
		m.WaitFor("the new server to vote", func() bool { return status().Voter })
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the new server got its vote after %v", took)
		}
		apply(t, m.Servers[0], service("after"))
	})
}

// A join that broke off after the mesh had admitted the server left its key
// behind; so it is no second use of the token.
func TestAServerJoinsAgainAfterALostAnswer(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		token := m.CreateToken(&apiv1.CreateTokenRequest{Server: true})
		host := m.Host("s2")
		c := m.Servers[0].Config()
		c.Name, c.DataDir, c.Network = "s2", m.Dir("s2", "server"), host
		c.Advertise, c.GossipAdvertise = host.IP().String()+":7300", host.IP().String()+":7301"
		for range 2 {
			if err := server.Join(t.Context(), c, token); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"server.json", "server.crt", "roots.crt", "sealing.key", "gossip.key"} {
				if err := os.Remove(filepath.Join(c.DataDir, file)); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
