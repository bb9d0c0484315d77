package proxy

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/proxy/mtls/mtlstest"
	"github.com/meshd/meshd/proxy/plan"
)

const (
	domain  = "mesh"
	web     = "spiffe://mesh/svc/web"
	billing = "spiffe://mesh/svc/billing"
	orders  = "spiffe://mesh/svc/orders"
)

// A mesh is hosts with a proxy each, and a service orders that callers on the
// first host reach at vip.
type mesh struct {
	t     testing.TB
	ca    *mtlstest.Authority
	hosts []*host
	vip   string

	service *plan.Service
	cluster *plan.Cluster
	version uint64
}

// A host is one machine. The application of its instance is in app.
type host struct {
	netx.Network
	proxy   *Proxy
	metrics *prometheus.Registry
	caller  string // SPIFFE ID of callers on this host
	inbound *plan.Inbound
	app     string
	link    netip.AddrPort
}

func (m *mesh) near() *host { return m.hosts[0] }
func (m *mesh) far() *host  { return m.hosts[1] }

// newMesh makes a mesh of n hosts in memory: one for callers, the others with
// an instance each. It must be called in a synctest bubble.
func newMesh(t *testing.T, n int) *mesh {
	t.Helper()
	network := memnet.New()
	m := &mesh{t: t, vip: "127.128.0.1:80"}
	for i := range n {
		ip := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		name := string(rune('a' + i))
		m.add(network.Host(name, ip), netip.AddrPortFrom(ip, 7443), "127.0.0.1:8080")
	}
	m.apply()
	return m
}

// newRealMesh makes a mesh of n hosts that are all this machine, on a loopback
// address of its own.
func newRealMesh(t testing.TB, n int) *mesh {
	t.Helper()
	id := uint32(os.Getpid())<<8 | realMeshes.Add(1)&0xff
	ip := netip.AddrFrom4([4]byte{127, 64 | byte(id>>16)&31, byte(id >> 8), byte(id)})
	m := &mesh{t: t, vip: netip.AddrPortFrom(ip, 8000).String()}
	for i := range n {
		port := uint16(i)
		m.add(netx.System{}, netip.AddrPortFrom(ip, 7443+port), netip.AddrPortFrom(ip, 8080+port).String())
	}
	m.apply()
	return m
}

var realMeshes atomic.Uint32

func (m *mesh) add(n netx.Network, link netip.AddrPort, app string) {
	m.t.Helper()
	if m.ca == nil {
		m.ca = mtlstest.New()
		m.ca.Issue(web, billing, orders)
		m.cluster = &plan.Cluster{Name: "orders", Service: "orders", Identity: orders, Protocol: plan.HTTP}
		m.service = &plan.Service{Name: "orders", Protocol: plan.HTTP, Default: plan.Target{
			Split:    []plan.Split{{Cluster: m.cluster, Weight: 1}},
			Timeouts: plan.Timeouts{Connect: 3 * time.Second, Response: 30 * time.Second, Idle: 5 * time.Minute},
			Retry:    plan.Retry{Attempts: 1, Connect: true, Refused: true, Reset: true, BudgetRatio: 0.2, BudgetPerSec: 10},
		}}
	}
	h := &host{Network: n, app: app, metrics: prometheus.NewRegistry(), caller: web}
	level := slog.LevelError
	if os.Getenv("MESHD_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	h.proxy = New(Config{
		Network: n, Identities: m.ca, Caller: func(net.Conn) string { return h.caller }, HostIdentity: web,
		Inbound: link.String(), Metrics: h.metrics,
		Logger: slog.New(slog.NewTextHandler(m.t.Output(), &slog.HandlerOptions{Level: level})),
	})
	if err := h.proxy.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		h.proxy.Stop(ctx)
	})
	h.link = netip.MustParseAddrPort(h.proxy.Addr().String())
	if len(m.hosts) > 0 {
		name := "p" + app[strings.LastIndexByte(app, ':')+1:] + ".orders.svc." + domain
		h.inbound = &plan.Inbound{ServerName: name, Service: "orders", Identity: orders, Protocol: plan.HTTP,
			Address: netip.MustParseAddrPort(app), Idle: 5 * time.Minute}
		m.cluster.Endpoints = append(m.cluster.Endpoints, plan.Endpoint{
			Key: string(rune('a'+len(m.hosts))) + "/orders", Address: h.link, ServerName: name, Weight: 1,
		})
	}
	m.hosts = append(m.hosts, h)
}

// tcp makes the service one of raw connections.
func (m *mesh) tcp() {
	m.service.Protocol, m.cluster.Protocol = plan.TCP, plan.TCP
	for _, h := range m.hosts[1:] {
		h.inbound.Protocol = plan.TCP
	}
	m.apply()
}

// apply gives every proxy a plan of what the mesh looks like now. What was
// given over must not be changed any more, so all is copied.
func (m *mesh) apply() {
	m.t.Helper()
	m.version++
	for i, h := range m.hosts {
		p := &plan.Plan{Version: m.version, TrustDomain: domain, Inbound: map[string]*plan.Inbound{}}
		if i == 0 {
			p.Outbound = []plan.Listener{{Address: netip.MustParseAddrPort(m.vip), Service: m.copy()}}
		}
		if h.inbound != nil {
			in := *h.inbound
			p.Inbound[in.ServerName] = &in
		}
		if problems := h.proxy.Apply(p); len(problems) > 0 {
			m.t.Fatal(problems)
		}
	}
}

func (m *mesh) copy() *plan.Service {
	clusters := map[*plan.Cluster]*plan.Cluster{}
	target := func(t plan.Target) plan.Target {
		t.Split = append([]plan.Split(nil), t.Split...)
		for i := range t.Split {
			old := t.Split[i].Cluster
			if clusters[old] == nil {
				c := *old
				c.Endpoints = append([]plan.Endpoint(nil), c.Endpoints...)
				clusters[old] = &c
			}
			t.Split[i].Cluster = clusters[old]
		}
		return t
	}
	s := *m.service
	s.Rules = append([]plan.Rule(nil), s.Rules...)
	for i := range s.Rules {
		s.Rules[i].Target = target(s.Rules[i].Target)
	}
	s.Default = target(s.Default)
	return &s
}

// serve runs an application on a host until the test ends.
func (m *mesh) serve(h *host, f func(net.Conn)) net.Listener {
	m.t.Helper()
	l, err := h.Listen(m.t.Context(), "tcp", h.app)
	if err != nil {
		m.t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			running.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	m.t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return l
}

// serveHTTP runs an application made with net/http, which speaks HTTP/2 to those
// who begin with it.
func (m *mesh) serveHTTP(h *host, f http.HandlerFunc) *http.Server {
	m.t.Helper()
	l, err := h.Listen(m.t.Context(), "tcp", h.app)
	if err != nil {
		m.t.Fatal(err)
	}
	s := &http.Server{Handler: f, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(l)
	}()
	m.t.Cleanup(func() {
		s.Close()
		<-done
	})
	return s
}

// A client is a connection of a caller to the service.
type client struct {
	net.Conn
	*bufio.Reader
	t testing.TB
}

func (c *client) Read(p []byte) (int, error) { return c.Reader.Read(p) }

func (m *mesh) dial() *client {
	m.t.Helper()
	c, err := m.near().DialContext(m.t.Context(), "tcp", m.vip)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	return &client{c, bufio.NewReader(c), m.t}
}

func (c *client) send(raw string) *client {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, strings.ReplaceAll(raw, "\n", "\r\n")); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// A reply is a response as the client has read it.
type reply struct {
	*http.Response
	body string
	err  error // in reading the body
}

// receive reads a response to a request with that method.
func (c *client) receive(method string) *reply {
	c.t.Helper()
	r, err := http.ReadResponse(c.Reader, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("reading a response: %v", err)
	}
	body, err := io.ReadAll(r.Body)
	return &reply{r, string(body), err}
}

// roundTrip sends a request as it stands and reads its response.
func (m *mesh) roundTrip(raw string) *reply {
	m.t.Helper()
	c := m.dial()
	defer c.Close()
	method, _, _ := strings.Cut(raw, " ")
	return c.send(raw).receive(method)
}

const get = "GET / HTTP/1.1\nHost: orders\n\n"

func (m *mesh) want(raw string, status int, code string) *reply {
	m.t.Helper()
	r := m.roundTrip(raw)
	if r.StatusCode != status || r.Header.Get("Meshd-Error") != code {
		m.t.Errorf("%.60q: got %d %q (%q), want %d %q", raw, r.StatusCode, r.Header.Get("Meshd-Error"), r.body, status, code)
	}
	return r
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
