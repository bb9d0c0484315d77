package meshtest_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/meshtest"
)

// limit is how many services every host is told of.
func limit(t *testing.T, m *meshtest.Mesh, services int) {
	t.Helper()
	apply(t, m, fmt.Sprintf("kind: mesh\nhosts: {whole_catalogue: %d}\n", services))
}

// bills runs another service than orders.
func bills(a *meshtest.Agent) {
	a.ServeHTTP(9090, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "bills") }))
	a.Add(&apiv1.Declaration{Name: "bills", Port: 9090, Protocol: apiv1.Protocol_PROTOCOL_HTTP})
}

// told waits until a host knows that many services, and that many by name only.
func told(m *meshtest.Mesh, a *meshtest.Agent, known, named uint32) {
	m.T.Helper()
	m.WaitFor(fmt.Sprintf("%s to know %d services and %d by name", a.Name, known, named), func() bool {
		s := a.Status()
		return s.ServicesKnown == known && s.ServicesNamed == named
	})
}

// A host of a large mesh is told of what it uses. The first lookup and the first
// call wait for it, and nothing fails.
func TestAHostOfALargeMeshKnowsWhatItUses(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		limit(t, m, 1)
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		orders(h2)
		bills(h2)
		told(m, h2, 2, 0)
		told(m, h1, 0, 2)
		must(t, h1, "http://orders.mesh/", "h2 for host/h1")
		told(m, h1, 1, 1)
		if got := lookup(t, h1, "bills.service.mesh."); !slices.Equal(got, []string{h2.Host.IP().String()}) {
			t.Errorf("instances of bills are at %v", got)
		}
		told(m, h1, 2, 0)
		if got := h1.Status().Uses; !slices.Equal(got, []string{"bills", "orders"}) {
			t.Errorf("the host says that it uses %v", got)
		}
		h1.Stop()
		m.Servers[0].Stop()
		h1.Start()
		must(t, h1, "http://orders.mesh/", "h2 for host/h1")
		m.Servers[0].Restart()
		told(m, h1, 2, 0)
		if got := lookup(t, h1, "nothing.mesh."); len(got) != 0 || slices.Contains(h1.Status().Uses, "nothing") {
			t.Errorf("a name of nothing leads to %v", got)
		}
	})
}

// What was not used for long is forgotten, but for the address: a caller that
// never looks it up again is still served.
func TestWhatAHostNoLongerUsesIsForgotten(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		limit(t, m, 1)
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		orders(h2)
		bills(h2)
		must(t, h1, "http://orders.mesh/", "h2 for host/h1")
		must(t, h1, "http://bills.mesh:9090/", "bills")
		told(m, h1, 2, 0)
		address := lookup(t, h1, "bills.mesh.")[0]
		h1.Stop()
		age(t, m, h1, "bills", 72*time.Hour)
		h1.Start()
		told(m, h1, 1, 1)
		status, body := get(t, h1, "http://"+net.JoinHostPort(address, "9090")+"/")
		if status != 200 || body != "bills" {
			t.Errorf("a call to an address of long ago gave %d %q", status, body)
		}
		told(m, h1, 2, 0)
	})
}

// age makes a service that a host used be one of long ago.
func age(t *testing.T, m *meshtest.Mesh, a *meshtest.Agent, service string, by time.Duration) {
	t.Helper()
	path := filepath.Join(m.Dir(a.Name, "agent"), "interest.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var records map[string]map[string]any
	if err := json.Unmarshal(b, &records); err != nil || records[service] == nil {
		t.Fatalf("%s is not among what the host uses: %s, %v", service, b, err)
	}
	records[service]["used"] = time.Now().Add(-by).Unix()
	if b, err = json.Marshal(records); err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The mesh grows beyond the limit, and the limit is raised, while calls go on.
func TestCrossingTheLimitFailsNoCall(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		orders(h2)
		bills(h2)
		known(m, h1, 1)
		told(m, h1, 2, 0)
		calls := startCalls(t, h1)
		for range 3 {
			time.Sleep(time.Second)
			limit(t, m, 1)
			told(m, h1, 1, 1)
			time.Sleep(time.Second)
			limit(t, m, 2)
			told(m, h1, 2, 0)
		}
		limit(t, m, 1)
		leader := m.Leader()
		leader.Crash()
		m.WaitFor("another leader", func() bool { return m.FindLeader() != nil })
		told(m, h1, 1, 1)
		calls.stop()
	})
}

// Where a route leads is known along with the service, though nobody asks for it.
func TestTheTargetsOfRoutesAreKnown(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		limit(t, m, 1)
		h1, h2, h3 := m.StartAgent("h1"), m.StartAgent("h2"), m.StartAgent("h3")
		orders(h2)
		bills(h3)
		told(m, h1, 0, 2)
		apply(t, m, "kind: route\nname: r\nservice: orders\nrules: [{match: {path: {prefix: /bills}}, split: [{to: bills}]}]\n")
		must(t, h1, "http://orders.mesh/", "h2 for host/h1")
		told(m, h1, 2, 0)
		must(t, h1, "http://orders.mesh/bills", "bills")
		if got := h1.Status().Uses; !slices.Equal(got, []string{"orders"}) {
			t.Errorf("the host says that it uses %v", got)
		}
	})
}

// What a host always uses, its configuration says.
func TestDeclaredUsesAreKnownFromTheStart(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		limit(t, m, 1)
		h2 := m.StartAgent("h2")
		orders(h2)
		bills(h2)
		h1 := m.NewAgent("h1")
		h1.Uses = "orders"
		h1.Join()
		told(m, h1, 1, 1)
	})
}
