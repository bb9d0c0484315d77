package server_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/meshtest"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/server"
)

func sealingKey(t *testing.T, s *meshtest.Server) pki.SealingKey {
	t.Helper()
	key, err := pki.ParseSealingKey(mustRead(t, s, "sealing.key"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A mesh whose servers are all lost goes on from a snapshot and the sealing key,
// and its hosts come back by themselves.
func TestAMeshIsFoundedAnew(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		agent := m.StartAgent("h1")
		agent.Add(&apiv1.Declaration{Name: "web", Port: 80})
		agent.Add(&apiv1.Declaration{Name: "orders", Port: 81})
		apply(t, m.Leader(), service("orders"))
		unused := m.CreateToken(&apiv1.CreateTokenRequest{})
		m.WaitFor("the instances to be there", func() bool { return status1(t, m.Leader()).Instances == 2 })
		places := placesOf(t, m.Leader())
		saved := mustSave(t, m.Leader())
		key := sealingKey(t, m.Leader())
		apply(t, m.Leader(), service("late"))
		m.WaitFor("the agent to have what the snapshot has not", func() bool {
			return slices.ContainsFunc(status1(t, m.Leader()).Agents, func(a *apiv1.AgentStatus) bool { return a.Version >= status1(t, m.Leader()).Index })
		})

		for _, s := range m.Servers {
			s.Crash()
		}
		heir, old := m.Servers[0], m.Servers[1]
		heir.Stop() // waits until it has let go of its files
		if err := os.RemoveAll(heir.Config().DataDir); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Refound(heir.Config(), bytes.NewReader(saved), pki.NewSealingKey()); err == nil || !strings.Contains(err.Error(), "sealing key") {
			t.Errorf("with another sealing key: %v", err)
		}
		if _, err := server.Refound(heir.Config(), bytes.NewReader(saved), key); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Refound(heir.Config(), bytes.NewReader(saved), key); err == nil {
			t.Error("a mesh was founded anew over another")
		}
		heir.Restart()
		<-heir.Ready()
		old.Restart() // is of a history that is over
		apply(t, heir, service("after"))

		m.WaitFor("the host to be back", func() bool { return status1(t, heir).NodesAlive == 1 && status1(t, heir).InstancesPassing == 2 })
		m.WaitFor("it to run what is in force now", func() bool {
			s := status1(t, heir)
			return slices.ContainsFunc(s.Agents, func(a *apiv1.AgentStatus) bool { return a.Node == "h1" && a.Version >= s.Index-1 })
		})
		if got := resources(t, heir, false); !slices.Equal(got, []string{"after", "orders"}) {
			t.Errorf("it has %v", got)
		}
		if got := placesOf(t, heir); !slices.Equal(got, places) {
			t.Errorf("services had the places %v and have %v", places, got)
		}
		if s := status1(t, heir); len(s.Servers) != 1 || s.Cluster.Recovery != 1 {
			t.Errorf("it says %v", s)
		}
		if err := m.NewFakeAgent("h2").EnrollWith(unused, nil); err == nil {
			t.Error("a token of before was good again")
		}
		audit, err := heir.Admin().Audit(t.Context(), &apiv1.AuditRequest{Action: "mesh refound"})
		if err != nil || len(audit.Records) != 1 {
			t.Errorf("the record is %v, %v", audit, err)
		}
		old.Stop()
		m.Servers = m.Servers[:1]
		m.AddServer("s4")
		m.WaitFor("a server that joins to vote", func() bool {
			s := status1(t, heir).Servers
			return len(s) == 2 && s[0].Voter && s[1].Voter
		})
		heir.Stop()
		heir.Start()
		<-heir.Ready()
		time.Sleep(time.Second)
		if got := resources(t, heir, false); !slices.Equal(got, []string{"after", "orders"}) {
			t.Errorf("after a restart it has %v", got)
		}
	})
}

// placesOf are those of the services, which addresses are made of.
func placesOf(t *testing.T, s *meshtest.Server) (list []string) {
	t.Helper()
	reply, err := s.Admin().ListServices(t.Context(), &apiv1.ListServicesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range reply.Services {
		if service.Name == "web" || service.Name == "orders" {
			list = append(list, fmt.Sprint(service.Name, service.Vip))
		}
	}
	return list
}

// A server whose only snapshot is damaged does not start, and says which file it
// is and what to do.
func TestADamagedSnapshotIsRefusedAtTheStart(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Servers[0]
		saved, key := mustSave(t, s), sealingKey(t, s)
		s.Stop()
		if err := os.RemoveAll(s.Config().DataDir); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Refound(s.Config(), bytes.NewReader(saved), key); err != nil {
			t.Fatal(err)
		}
		states, err := filepath.Glob(filepath.Join(s.Config().DataDir, "raft", "snapshots", "*", "state.bin"))
		if err != nil || len(states) != 1 {
			t.Fatalf("%v, %v", states, err)
		}
		state, err := os.ReadFile(states[0])
		if err != nil {
			t.Fatal(err)
		}
		state[len(state)/2] ^= 1
		if err := os.WriteFile(states[0], state, 0o600); err != nil {
			t.Fatal(err)
		}
		damaged, err := server.New(s.Config())
		if err == nil {
			err = damaged.Start(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), "snapshots") || !strings.Contains(err.Error(), "join") {
			t.Errorf("starting on a damaged snapshot gave %v", err)
		}
	})
}
