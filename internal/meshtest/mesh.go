// Package meshtest runs a whole mesh in one process, on a network in memory and
// inside a testing/synctest bubble, where elections and time-outs take no time.
package meshtest

import (
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/server"
)

// patience is how long WaitFor waits, by the bubble's clock.
const patience = time.Minute

// afterwards is longer than anything outlives its owner.
const afterwards = 30 * time.Second

// A Mesh is made and used in one bubble. Whatever it started is stopped when the
// test ends.
type Mesh struct {
	T       *testing.T
	Net     *memnet.Net
	Servers []*Server
	Agents  []*Agent
	// Init names the mesh that the first server makes.
	Init server.InitOptions
	// Configure, if not nil, changes what servers are started with.
	Configure func(*server.Config)

	log   *slog.Logger
	dir   string
	hosts int
}

// New makes a mesh without hosts. What its members log is shown when the test
// fails.
func New(t *testing.T) *Mesh {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	// What goes on for a moment after its owner has stopped must end in the
	// bubble too.
	t.Cleanup(func() { time.Sleep(afterwards) })
	return &Mesh{T: t, Net: memnet.New(), log: log, dir: t.TempDir()}
}

// Host adds a machine to the network: 10.0.0.1, 10.0.0.2 and so on.
func (m *Mesh) Host(name string) *memnet.Host {
	m.hosts++
	return m.Net.Host(name, netip.AddrFrom4([4]byte{10, 0, byte(m.hosts >> 8), byte(m.hosts)}))
}

// Dir is a place on a host's disk, which outlives crashes.
func (m *Mesh) Dir(host, name string) string { return filepath.Join(m.dir, host, name) }

// StartServers adds n servers, s1 and so on: the first makes the mesh, the others
// join it by token. It returns when all of them vote.
func (m *Mesh) StartServers(n int) {
	m.T.Helper()
	for range n {
		m.AddServer(fmt.Sprintf("s%d", len(m.Servers)+1))
	}
	m.WaitFor("all servers to vote", func() bool { return m.voters() == len(m.Servers) })
}

func (m *Mesh) voters() (n int) {
	leader := m.FindLeader()
	if leader == nil {
		return 0
	}
	reply, err := leader.Admin().Status(m.T.Context(), &apiv1.StatusRequest{})
	if err != nil {
		return 0
	}
	for _, s := range reply.Servers {
		if s.Voter && s.Alive {
			n++
		}
	}
	return n
}

// AddServer adds one server and waits until it is ready.
func (m *Mesh) AddServer(name string) *Server {
	m.T.Helper()
	s := &Server{mesh: m, Name: name, Host: m.Host(name)}
	if len(m.Servers) == 0 {
		s.init()
	} else {
		s.join(m.CreateToken(&apiv1.CreateTokenRequest{Server: true}))
	}
	m.Servers = append(m.Servers, s)
	m.T.Cleanup(s.Stop)
	s.Start()
	<-s.Server.Ready()
	return s
}

// CreateToken makes a join token.
func (m *Mesh) CreateToken(r *apiv1.CreateTokenRequest) string {
	m.T.Helper()
	reply, err := m.Leader().Admin().CreateToken(m.T.Context(), r)
	if err != nil {
		m.T.Fatalf("creating a join token: %v", err)
	}
	return reply.Token
}

// Leader is the running server that leads; it waits for one.
func (m *Mesh) Leader() (leader *Server) {
	m.T.Helper()
	m.WaitFor("a leader", func() bool {
		leader = m.FindLeader()
		return leader != nil
	})
	return leader
}

// FindLeader is the running server that leads, nil when none does.
func (m *Mesh) FindLeader() *Server {
	for _, s := range m.Servers {
		if s.Running() && s.Leads() {
			return s
		}
	}
	return nil
}

// Follower is a running server that does not lead.
func (m *Mesh) Follower() *Server {
	m.T.Helper()
	leader := m.Leader()
	for _, s := range m.Servers {
		if s.Running() && s != leader {
			return s
		}
	}
	m.T.Fatal("there is no follower")
	return nil
}

// WaitFor lets time pass until cond holds.
func (m *Mesh) WaitFor(what string, cond func() bool) {
	m.T.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		synctest.Wait()
		if cond() {
			return
		}
	}
	m.T.Fatalf("waited %v in vain for %s", patience, what)
}
