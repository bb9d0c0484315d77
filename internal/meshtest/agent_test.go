package meshtest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	mdns "github.com/miekg/dns"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/meshtest"
)

// bubble runs a test of a mesh of n servers in fake time.
func bubble(t *testing.T, servers int, test func(t *testing.T, m *meshtest.Mesh)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t)
		m.StartServers(servers)
		test(t, m)
	})
}

// orders runs the service orders on a host: it answers who answers, and who it
// was told is calling.
func orders(a *meshtest.Agent) *apiv1.AddServiceReply {
	a.ServeHTTP(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := mesh.ParseIdentity(r.Header.Get("meshd-client-id"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s for %s", a.Name, caller.Short())
	}))
	return a.Add(&apiv1.Declaration{Name: "orders", Port: 8080, Protocol: apiv1.Protocol_PROTOCOL_HTTP})
}

// get calls and gives status and body.
func get(t *testing.T, from *meshtest.Agent, url string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := from.Client().Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}

// must calls and insists on the answer.
func must(t *testing.T, from *meshtest.Agent, url, want string) {
	t.Helper()
	if status, body := get(t, from, url); status != 200 || body != want {
		t.Errorf("%s from %s: %d %q, want %q", url, from.Name, status, body, want)
	}
}

// known waits until a host knows that many healthy instances of orders.
func known(m *meshtest.Mesh, a *meshtest.Agent, count int) {
	m.T.Helper()
	m.WaitFor(fmt.Sprintf("%s to know %d instances of orders", a.Name, count), func() bool {
		return len(lookup(m.T, a, "orders.service.mesh.")) == count
	})
}

// lookup gives the addresses of a name as a host has them, in order.
func lookup(t *testing.T, a *meshtest.Agent, name string) (addrs []string) {
	t.Helper()
	found, err := a.Lookup(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range found {
		addrs = append(addrs, addr.String())
	}
	slices.Sort(addrs)
	return addrs
}

// lookupSRV gives the first SRV record of a name.
func lookupSRV(t *testing.T, a *meshtest.Agent, name string) string {
	t.Helper()
	c, err := a.Host.DialContext(t.Context(), "tcp", a.Config().DNS)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	query := new(mdns.Msg)
	query.SetQuestion(name, mdns.TypeSRV)
	answer, _, err := new(mdns.Client).ExchangeWithConn(query, &mdns.Conn{Conn: c})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Answer) != 1 {
		t.Fatalf("%d SRV records of %s", len(answer.Answer), name)
	}
	srv := answer.Answer[0].(*mdns.SRV)
	return fmt.Sprintf("%s %d", srv.Target, srv.Port)
}

// A registration on one host is a name on another, by which its applications
// call the service; both agents prove who they are.
func TestFromRegistrationToCall(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		reply := orders(h2)
		known(m, h1, 1)
		if diff := cmp.Diff([]string{reply.Address}, lookup(t, h1, "orders.mesh.")); diff != "" {
			t.Errorf("orders.mesh (-want +got)\n%s", diff)
		}
		if diff := cmp.Diff([]string{h2.Host.IP().String()}, lookup(t, h1, "orders.service.mesh.")); diff != "" {
			t.Errorf("orders.service.mesh (-want +got)\n%s", diff)
		}
		if got := lookupSRV(t, h1, "_orders._tcp.service.mesh."); got != "h2.node.mesh. 8080" {
			t.Errorf("SRV %s", got)
		}
		must(t, h1, "http://orders.mesh/", "h2 for host/h1")
		must(t, h1, "http://orders.mesh:8080/", "h2 for host/h1")
		h1.SpeakAs("web")
		h1.Add(&apiv1.Declaration{Name: "web", Port: 3000})
		m.WaitFor("the certificate of web", func() bool { return len(h1.Status().Certificates) == 2 })
		must(t, h1, "http://orders.mesh/", "h2 for web")
		must(t, h2, "http://orders.mesh/", "h2 for host/h2")
	})
}

func TestTCPCall(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		h2.ServeEcho(5432, "db of h2\n")
		h2.Add(&apiv1.Declaration{Name: "db", Port: 5432})
		for _, from := range []*meshtest.Agent{h1, h2} {
			m.WaitFor("db to be known", func() bool { return len(lookup(t, from, "db.service.mesh.")) == 1 })
			c, err := from.Dial(t.Context(), "tcp", "db.mesh:5432")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, "ping\n"); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(c)
			for _, want := range []string{"db of h2\n", "ping\n"} {
				if got, err := r.ReadString('\n'); err != nil || got != want {
					t.Errorf("from %s: got %q, %v; want %q", from.Name, got, err, want)
				}
			}
		}
	})
}

// When a link between two hosts is cut, calls go to instances on other hosts.
func TestPartitionBetweenHosts(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2, h3 := m.StartAgent("h1"), m.StartAgent("h2"), m.StartAgent("h3")
		for _, h := range []*meshtest.Agent{h2, h3} {
			m.Net.SetLatency(h1.Host, h.Host, time.Millisecond)
			orders(h)
		}
		known(m, h1, 2)
		m.Net.Partition([]*memnet.Host{h1.Host}, []*memnet.Host{h2.Host})
		for range 20 {
			must(t, h1, "http://orders.mesh/", "h3 for host/h1")
		}
		known(m, h1, 2) // both are alive: only this link is cut
		m.Net.Heal()
		// The balancer takes its time to trust a host that answered late.
		time.Sleep(2 * time.Minute)
		m.WaitFor("calls to reach h2 again", func() bool {
			_, body := get(t, h1, "http://orders.mesh/")
			return strings.HasPrefix(body, "h2")
		})
	})
}

// A host that no server hears of is called as long as there is no other, and
// counts again as soon as it is heard of.
func TestHostCutOffFromServers(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		orders(h2)
		known(m, h1, 1)
		m.Net.Partition([]*memnet.Host{m.Servers[0].Host}, []*memnet.Host{h2.Host})
		m.WaitFor("h2 to be lost", func() bool { return nodeState(t, m, "h2") == apiv1.NodeState_NODE_STATE_LOST })
		time.Sleep(time.Second)
		must(t, h1, "http://orders.mesh/", "h2 for host/h1")
		h3 := m.StartAgent("h3")
		orders(h3)
		m.WaitFor("h1 to know h3", func() bool {
			return slices.Equal(lookup(t, h1, "orders.service.mesh."), []string{h3.Host.IP().String()})
		})
		for range 5 {
			must(t, h1, "http://orders.mesh/", "h3 for host/h1")
		}
		m.Net.Heal()
		known(m, h1, 2)
	})
}

func nodeState(t *testing.T, m *meshtest.Mesh, name string) apiv1.NodeState {
	t.Helper()
	reply, err := m.Leader().Admin().Members(t.Context(), &apiv1.MembersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range reply.Nodes {
		if n.Name == name {
			return n.State
		}
	}
	t.Fatalf("there is no host %s", name)
	return 0
}

// A host that dies is not called any more, and the mesh learns of it.
func TestHostDies(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2, h3 := m.StartAgent("h1"), m.StartAgent("h2"), m.StartAgent("h3")
		orders(h2)
		orders(h3)
		known(m, h1, 2)
		h2.Crash()
		died := time.Now()
		for range 20 {
			must(t, h1, "http://orders.mesh/", "h3 for host/h1")
		}
		known(m, h1, 1)
		if d := time.Since(died); d > 5*time.Second {
			t.Errorf("the catalogue had it after %v", d)
		}
	})
}

// The leader is killed: agents go to other servers, calls go on, and what is
// registered meanwhile is known everywhere.
func TestServerFailover(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2, h3 := m.StartAgent("h1"), m.StartAgent("h2"), m.StartAgent("h3")
		orders(h2)
		known(m, h1, 1)
		calls := startCalls(t, h1)
		for range 2 {
			leader := m.Leader()
			leader.Crash()
			m.WaitFor("another leader", func() bool { return m.FindLeader() != nil })
			for _, a := range []*meshtest.Agent{h1, h2, h3} {
				m.WaitFor(a.Name+" to find a server", func() bool { s := a.Status().Server; return s != "" && s != leader.Name })
			}
			leader.Restart()
			m.WaitFor("three servers", func() bool { return alive(t, m) == 3 })
		}
		orders(h3)
		known(m, h1, 2)
		calls.stop()
	})
}

// A caller calls orders all the time, and insists that every call is answered.
type caller struct {
	stopping chan struct{}
	stopped  chan struct{}
}

func startCalls(t *testing.T, from *meshtest.Agent) *caller {
	c := &caller{make(chan struct{}), make(chan struct{})}
	go func() {
		defer close(c.stopped)
		for {
			select {
			case <-c.stopping:
				return
			case <-time.After(50 * time.Millisecond):
			}
			if status, body := get(t, from, "http://orders.mesh/"); status != 200 {
				t.Errorf("a call failed: %d %q", status, body)
			}
		}
	}()
	return c
}

func (c *caller) stop() {
	close(c.stopping)
	<-c.stopped
}

func alive(t *testing.T, m *meshtest.Mesh) (n int) {
	leader := m.FindLeader()
	if leader == nil {
		return 0
	}
	reply, err := leader.Admin().Status(t.Context(), &apiv1.StatusRequest{})
	if err != nil {
		return 0
	}
	for _, s := range reply.Servers {
		if s.Alive && s.Voter {
			n++
		}
	}
	return n
}

// All servers are gone for an hour: calls and DNS go on, even on a host whose
// agent is started again.
func TestAllServersDown(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		orders(h2)
		known(m, h1, 1)
		time.Sleep(2 * time.Second) // for what is known to reach the disk
		for _, s := range m.Servers {
			s.Crash()
		}
		for range 6 {
			time.Sleep(10 * time.Minute)
			must(t, h1, "http://orders.mesh/", "h2 for host/h1")
		}
		for _, a := range []*meshtest.Agent{h1, h2} {
			a.Stop()
			a.Start()
			must(t, h1, "http://orders.mesh/", "h2 for host/h1")
		}
		if s := h1.Status(); s.Server != "" || len(s.Problems) == 0 {
			t.Errorf("status without servers: %v", s)
		}
		for _, s := range m.Servers[:2] {
			s.Restart()
		}
		m.WaitFor("h1 to find a server", func() bool { return h1.Status().Server != "" })
		h1.ServeHTTP(3000, http.NotFoundHandler())
		h1.Add(&apiv1.Declaration{Name: "late", Port: 3000})
		m.WaitFor("h2 to know it", func() bool { return len(lookup(t, h2, "late.service.mesh.")) == 1 })
	})
}

// A policy acts within a second, on the called side, on the identity that was
// proved.
func TestPolicy(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		orders(h2)
		known(m, h1, 1)
		must(t, h1, "http://orders.mesh/", "h2 for host/h1")
		apply(t, m, "kind: policy\nname: orders\nservice: orders\nrules: [{from: [web]}]\n")
		time.Sleep(time.Second)
		for _, from := range []*meshtest.Agent{h1, h2} {
			if status, body := get(t, from, "http://orders.mesh/"); status != 403 {
				t.Errorf("from %s: %d %q", from.Name, status, body)
			}
		}
		h1.Add(&apiv1.Declaration{Name: "web", Port: 3000})
		h1.SpeakAs("web")
		m.WaitFor("the certificate of web", func() bool { return len(h1.Status().Certificates) == 2 })
		must(t, h1, "http://orders.mesh/", "h2 for web")
		apply(t, m, "kind: policy\nname: orders\nservice: orders\nrules: [{from: [\"*\"]}]\n")
		time.Sleep(time.Second)
		h1.SpeakAs("")
		must(t, h1, "http://orders.mesh/", "h2 for host/h1")
	})
}

// Routes split between subsets by what instances declare.
func TestRoute(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2, h3 := m.StartAgent("h1"), m.StartAgent("h2"), m.StartAgent("h3")
		orders(h2)
		orders(h3)
		known(m, h1, 2)
		apply(t, m, `kind: service
name: orders
subsets: {two: {node: h2}, three: {node: h3}}
---
kind: route
name: orders
service: orders
rules:
  - match: {path: {prefix: /two}}
    split: [{to: orders@two}]
  - match: {path: {prefix: /three}}
    split: [{to: orders@three}]
`)
		time.Sleep(time.Second)
		for range 5 {
			must(t, h1, "http://orders.mesh/two/x", "h2 for host/h1")
			must(t, h1, "http://orders.mesh/three", "h3 for host/h1")
		}
	})
}

func apply(t *testing.T, m *meshtest.Mesh, text string) {
	t.Helper()
	docs, err := config.DecodeResources("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	request := &apiv1.ApplyRequest{}
	for _, d := range docs {
		request.Resources = append(request.Resources, d.Resource)
	}
	reply, err := m.Leader().Admin().Apply(t.Context(), request)
	if err != nil || len(reply.Problems) > 0 {
		t.Fatalf("applying: %v, %v", reply, err)
	}
}

// Certificates end and are renewed, and calls never notice.
func TestCertificatesAreRenewed(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		apply(t, m, "kind: mesh\nname: mesh\ncertificates: {ttl: 10m}\n")
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		orders(h2)
		known(m, h1, 1)
		for range 20 {
			time.Sleep(2 * time.Minute)
			must(t, h1, "http://orders.mesh/", "h2 for host/h1")
		}
	})
}
