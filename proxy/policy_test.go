package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/proxy/dispatch"
	"github.com/meshd/meshd/proxy/mtls"
	"github.com/meshd/meshd/proxy/plan"
)

func only(ids ...string) []plan.Policy {
	p := plan.Policy{Name: "orders", DefaultDeny: true}
	for _, id := range ids {
		p.Rules = append(p.Rules, plan.PolicyRule{Name: "r", From: []plan.CallerPattern{{ID: id}}})
	}
	return []plan.Policy{p}
}

func TestPolicyIsEnforcedAtTheCalledSide(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		calls := 0
		m.serveHTTP(m.far(), func(http.ResponseWriter, *http.Request) { calls++ })
		m.far().inbound.Policies = only(billing)
		m.apply()
		c := m.dial()
		r := c.send(get).receive("GET")
		if r.StatusCode != 403 || r.Header.Get("Meshd-Error") != "denied" || calls != 0 {
			t.Errorf("got %d %q after %d calls", r.StatusCode, r.Header.Get("Meshd-Error"), calls)
		}
		m.near().caller = billing
		m.want(get, 200, "")
		// A change acts on the next request of an open connection.
		m.far().inbound.Policies = only(web)
		m.apply()
		if r := c.send(get).receive("GET"); r.StatusCode != 200 {
			t.Errorf("got %d", r.StatusCode)
		}
		m.want(get, 403, "denied")
		if n := m.far().value(t, "meshd_authz_total", "src", "billing", "dst", "orders", "verdict", "refused", "policy", "orders"); n != 1 {
			t.Errorf("%v refusals counted", n)
		}
		// Refusals are no failures: nobody is ejected, nothing is tried again.
		if n := m.near().value(t, "meshd_retries_total"); n != 0 {
			t.Errorf("%v retries", n)
		}
	})
}

func TestAuditModeOnlyRecords(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(http.ResponseWriter, *http.Request) {})
		m.far().inbound.Policies = only(billing)
		m.far().inbound.Policies[0].Audit = true
		m.apply()
		m.want(get, 200, "")
		if n := m.far().value(t, "meshd_authz_total", "verdict", "audited", "src", "web"); n != 1 {
			t.Errorf("%v counted", n)
		}
	})
}

func TestWithoutAPlanNothingPasses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(http.ResponseWriter, *http.Request) { t.Error("the application is called") })
		if problems := m.far().proxy.Apply(&plan.Plan{}); problems != nil {
			t.Fatal(problems)
		}
		m.want(get, 503, "connect-failed")
	})
}

// local puts the instance on the callers' own host.
func (m *mesh) local() {
	m.near().inbound, m.near().app = m.far().inbound, m.far().app
	m.cluster.Endpoints[0].Local = true
	m.apply()
}

func TestSameHost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.local()
		m.serveHTTP(m.near(), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Meshd-Error", "lies")
			io.WriteString(w, r.Header.Get("Meshd-Client-Id")+r.RequestURI)
		})
		c := m.dial()
		for range 2 {
			r := c.send("GET /%61 HTTP/1.1\nHost: orders\nMeshd-Client-Id: x\n\n").receive("GET")
			if r.body != web+"/%61" || r.Header.Get("Meshd-Error") != "" {
				t.Errorf("%q %v", r.body, r.Header)
			}
		}
		m.near().inbound.Policies = only(billing)
		m.near().inbound.Policies[0].Rules[0].Paths = []plan.PathPattern{{Path: "/a"}}
		m.apply()
		m.want("GET /a HTTP/1.1\nHost: orders\n\n", 403, "denied")
		m.near().caller = billing
		r := m.want("GET /%61 HTTP/1.1\nHost: orders\n\n", 200, "")
		if r.body != billing+"/a" {
			t.Errorf("got %q", r.body)
		}
		m.want("GET /b/../a HTTP/1.1\nHost: orders\n\n", 400, "ambiguous-path")
		m.near().inbound = nil
		m.apply()
		m.want(get, 503, "not-here")
	})
}

// shout upgrades, then answers in capitals until the other side ends.
func shout(c net.Conn) {
	r := bufio.NewReader(c)
	if _, err := http.ReadRequest(r); err != nil {
		return
	}
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nEARLY")
	buf := make([]byte, 100)
	for {
		n, err := r.Read(buf)
		if err != nil {
			io.WriteString(c, "BYE")
			return
		}
		c.Write(bytes.ToUpper(buf[:n]))
	}
}

const upgrade = "GET /chat HTTP/1.1\nHost: orders\nConnection: upgrade\nUpgrade: websocket\n\n"

func (c *client) expect(want string) {
	c.t.Helper()
	buf := make([]byte, len(want))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != want {
		c.t.Errorf("got %q, %v; want %q", buf, err, want)
	}
}

func TestUpgrade(t *testing.T) {
	for _, local := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			m := newMesh(t, 2)
			if local {
				m.local()
			}
			m.serve(m.hosts[map[bool]int{true: 0, false: 1}[local]], shout)
			c := m.dial().send(upgrade + "first")
			if r := c.receive("GET"); r.StatusCode != 101 || r.Header.Get("Upgrade") != "websocket" {
				t.Fatalf("got %d %v", r.StatusCode, r.Header)
			}
			c.expect("EARLYFIRST")
			time.Sleep(4 * time.Minute) // no request takes so long, but this is none any more
			c.send("hello").expect("HELLO")
			c.Conn.(interface{ CloseWrite() error }).CloseWrite()
			c.expect("BYE")
			if _, err := c.ReadByte(); err != io.EOF {
				t.Errorf("at the end: %v", err)
			}
		})
	}
}

func TestUpgradeThatIsDeclined(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serve(m.far(), forever(ok))
		c := m.dial()
		for range 2 {
			if r := c.send(upgrade).receive("GET"); r.StatusCode != 200 || r.body != "ok" {
				t.Errorf("got %d %q", r.StatusCode, r.body)
			}
		}
	})
}

func TestH2CIsNotForwarded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"Upgrade", "Http2-Settings", "Connection"} {
				if r.Header.Get(name) != "" {
					t.Errorf("%s arrives", name)
				}
			}
		})
		m.want("GET / HTTP/1.1\nHost: orders\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__\n\n", 200, "")
	})
}

func TestPolicyCutsOpenStreams(t *testing.T) {
	f := func(what string, local bool, prepare func(m *mesh), open func(m *mesh) *client) {
		t.Helper()
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newMesh(t, 2)
				h := m.far()
				if local {
					m.local()
					h = m.near()
				}
				prepare(m)
				c := open(m)
				synctest.Wait()
				// A change that is about somebody else cuts nobody.
				h.inbound.Policies = only(web)
				m.apply()
				c.send("hello").expect("HELLO")
				h.inbound.Policies = only(billing)
				m.apply()
				began := time.Now()
				if _, err := c.ReadByte(); err == nil || time.Since(began) > time.Second {
					t.Errorf("%v after %v", err, time.Since(began))
				}
			})
		})
	}
	websocket := func(m *mesh) *client {
		c := m.dial().send(upgrade)
		c.receive("GET")
		c.expect("EARLY")
		return c
	}
	f("websocket", false, func(m *mesh) { m.serve(m.far(), shout) }, websocket)
	f("websocket on the same host", true, func(m *mesh) { m.serve(m.near(), shout) }, websocket)
	raw := func(m *mesh) *client { return m.dial() }
	f("TCP", false, func(m *mesh) { m.tcp(); m.serve(m.far(), echoUpper) }, raw)
	f("TCP on the same host", true, func(m *mesh) { m.near().inbound.Protocol = plan.TCP; m.tcp(); m.serve(m.near(), echoUpper) }, raw)
}

func TestPolicyByPathCutsUpgradedStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serve(m.far(), shout)
		open := func(path string) *client {
			c := m.dial().send(strings.Replace(upgrade, "/chat", path, 1))
			c.receive("GET")
			c.expect("EARLY")
			return c
		}
		kept, cut, odd := open("/a/%62"), open("/%61dmin"), open("/a//b")
		m.far().inbound.Policies = []plan.Policy{{Name: "p", Rules: []plan.PolicyRule{
			{Deny: true, From: []plan.CallerPattern{{ID: web}}, Paths: []plan.PathPattern{{Path: "/admin", Prefix: true}}},
		}}}
		m.apply()
		kept.send("hello").expect("HELLO")
		for _, c := range []*client{cut, odd} {
			if _, err := c.ReadByte(); err == nil {
				t.Error("a stream that policy refuses goes on")
			}
		}
	})
}

func echoUpper(c net.Conn) {
	buf := make([]byte, 1000)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		c.Write(bytes.ToUpper(buf[:n]))
	}
}

// agent connects to the far host as another agent would.
func (m *mesh) agent(id string, change func(*tls.Config)) (*tls.Conn, error) {
	m.t.Helper()
	raw, err := m.near().DialContext(m.t.Context(), "tcp", m.far().link.String())
	if err != nil {
		m.t.Fatal(err)
	}
	to := mtls.Destination{ServerName: m.far().inbound.ServerName, Identity: orders, Protocols: []string{dispatch.LinkHTTP}}
	config := mtls.Client(m.ca, m.ca.Certificate(id), to)
	if change != nil {
		change(config)
	}
	c := tls.Client(raw, config)
	m.t.Cleanup(func() { raw.Close() })
	return c, c.Handshake()
}

func TestStrangersGetNowhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/good" {
				t.Errorf("%s arrives", r.URL)
			}
		})
		try := func(what string, id string, change func(*tls.Config)) {
			t.Helper()
			c, err := m.agent(id, change)
			if err == nil {
				io.WriteString(c, strings.ReplaceAll("GET /bad HTTP/1.1\nHost: orders\n\n", "\n", "\r\n"))
				_, err = c.Read(make([]byte, 1))
			}
			if err == nil {
				t.Errorf("%s is served", what)
			}
		}
		m.ca.Issue("spiffe://mesh/server/s1", "spiffe://elsewhere/svc/web")
		try("no certificate", web, func(c *tls.Config) { c.Certificates = nil })
		try("a server", "spiffe://mesh/server/s1", nil)
		try("another mesh", "spiffe://elsewhere/svc/web", nil)
		try("TLS 1.2", web, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })
		try("an unknown name", web, func(c *tls.Config) { c.ServerName = "p1.other.svc.mesh" })
		try("another protocol", web, func(c *tls.Config) { c.NextProtos = []string{"meshd-tcp"}; c.VerifyConnection = nil })

		// In clear, nothing is answered but by an alert.
		raw, err := m.near().DialContext(t.Context(), "tcp", m.far().link.String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(raw, strings.ReplaceAll(get, "\n", "\r\n"))
		if answer, _ := io.ReadAll(raw); bytes.Contains(answer, []byte("HTTP")) {
			t.Errorf("in clear: %q", answer)
		}

		// The right one is.
		c, err := m.agent(web, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, strings.ReplaceAll("GET /good HTTP/1.1\nHost: orders\n\n", "\n", "\r\n"))
		if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 200 {
			t.Errorf("the right one: %v", err)
		}
	})
}

func TestSilentStrangersAreCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		raw, err := m.near().DialContext(t.Context(), "tcp", m.far().link.String())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := raw.Read(make([]byte, 1)); err == nil || time.Since(began) != helloTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestWrongCallee(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(http.ResponseWriter, *http.Request) { t.Error("the wrong one is called") })
		m.cluster.Identity = billing
		m.apply()
		m.want(get, 502, "identity")
	})
}

func TestNoCertificate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(http.ResponseWriter, *http.Request) {})
		m.near().caller = "spiffe://mesh/svc/new"
		m.want(get, 503, "no-certificate")
		m.ca.Issue("spiffe://mesh/svc/new")
		m.want(get, 200, "")
	})
}

func TestEndpointWithoutAddressIsLeftOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 3)
		m.serveHTTP(m.hosts[2], func(http.ResponseWriter, *http.Request) {})
		m.cluster.Endpoints[0].Address = netip.AddrPort{}
		m.apply()
		for range 10 {
			m.want(get, 200, "")
		}
	})
}
