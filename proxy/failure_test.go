package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/proxy/plan"
)

// value is the sum of a metric over the series with these labels.
func (h *host) value(t *testing.T, name string, labels ...string) (sum float64) {
	t.Helper()
	families, err := h.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			found := 0
			for _, l := range m.GetLabel() {
				for i := 0; i < len(labels); i += 2 {
					if l.GetName() == labels[i] && l.GetValue() == labels[i+1] {
						found++
					}
				}
			}
			if f.GetName() == name && 2*found == len(labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// drop hangs up on every connection once a request has come.
func drop(calls *atomic.Int32) func(net.Conn) {
	return func(c net.Conn) {
		if q, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.Copy(io.Discard, q.Body)
			calls.Add(1)
		}
	}
}

func TestNobodyToCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		began := time.Now()
		m.want(get, 503, "app-connect-failed")
		m.cluster.Endpoints[0].Address = netip.MustParseAddrPort("10.0.0.2:1")
		m.apply()
		r := m.want(get, 503, "connect-failed")
		if r.Close || !strings.Contains(r.body, "No connection to the agent") || strings.Contains(r.body, "10.0.0.2") {
			t.Errorf("close %v, %q", r.Close, r.body)
		}
		m.cluster.Endpoints = nil
		m.apply()
		m.want(get, 503, "no-endpoint")
		if d := time.Since(began); d > time.Second {
			t.Errorf("it took %v", d)
		}
		// The connection of a refused request goes on if the request is whole.
		c := m.dial()
		for range 2 {
			if r := c.send("POST / HTTP/1.1\nHost: orders\nContent-Length: 2\n\nok").receive("POST"); r.StatusCode != 503 {
				t.Errorf("got %d", r.StatusCode)
			}
		}
		if r := c.send("HEAD / HTTP/1.1\nHost: orders\n\n").receive("HEAD"); r.StatusCode != 503 {
			t.Errorf("got %d", r.StatusCode)
		}
		synctest.Wait() // a call is counted after it was answered
		if n := m.near().value(t, "meshd_requests_total", "error", "no-endpoint", "src", "web", "dst", "orders", "status_class", "5xx"); n != 4 {
			t.Errorf("%v counted", n)
		}
	})
}

func TestUnreachableHostTakesTheConnectTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.cluster.Endpoints[0].Address = netip.MustParseAddrPort("10.9.9.9:7443")
		m.service.Default.Timeouts.Connect = time.Second
		m.apply()
		began := time.Now()
		m.want(get, 503, "connect-failed")
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("a try and a retry took %v", d)
		}
	})
}

func TestRetryElsewhere(t *testing.T) {
	f := func(what string, broken func(m *mesh, h *host), request string, want int) {
		t.Helper()
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newMesh(t, 3)
				m.cluster.Breaker = plan.Breaker{}
				m.apply()
				m.serveHTTP(m.hosts[2], func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					fmt.Fprintf(w, "ok %s", body)
				})
				broken(m, m.hosts[1])
				for range 50 {
					r := m.roundTrip(request)
					if r.StatusCode != want && r.StatusCode != 200 {
						t.Fatalf("got %d %q", r.StatusCode, r.body)
					}
					if want == 200 && r.body != "ok hello" && r.body != "ok " {
						t.Fatalf("got %q", r.body)
					}
				}
			})
		})
	}
	const post = "POST / HTTP/1.1\nHost: orders\nContent-Length: 5\n\nhello"
	var calls atomic.Int32
	down := func(*mesh, *host) {}
	gone := func(m *mesh, h *host) {
		m.cluster.Endpoints[0].Address = netip.MustParseAddrPort("10.0.0.2:1")
		m.apply()
	}
	impostor := func(m *mesh, h *host) { m.cluster.Endpoints[0].ServerName = "p1.other.svc.mesh"; m.apply() }
	hangsUp := func(m *mesh, h *host) { m.serve(h, drop(&calls)) }
	f("application is down, GET", down, get, 200)
	f("application is down, POST", down, post, 200)
	f("agent is down, POST", gone, post, 200)
	f("instance is unknown there, POST", impostor, post, 200)
	f("application hangs up, GET", hangsUp, get, 200)
	f("application hangs up, POST", hangsUp, post, 502)
}

func TestPostIsMadeOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.service.Default.Retry.Attempts = 5
		m.apply()
		var calls atomic.Int32
		m.serve(m.far(), drop(&calls))
		m.want("POST / HTTP/1.1\nHost: orders\nContent-Length: 5\n\nhello", 502, "reset")
		if n := calls.Load(); n != 1 {
			t.Errorf("the application was called %d times", n)
		}
		m.want("PUT / HTTP/1.1\nHost: orders\nContent-Length: 5\n\nhello", 502, "reset")
		if n := calls.Load(); n <= 2 {
			t.Errorf("the application was called %d times", n)
		}
	})
}

func TestRetryByStatus(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 3)
		m.service.Default.Retry.Statuses = []plan.StatusRange{{From: 502, To: 504}}
		m.apply()
		var refused, served atomic.Int32
		m.serveHTTP(m.hosts[1], func(w http.ResponseWriter, r *http.Request) {
			refused.Add(1)
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(503)
		})
		m.serveHTTP(m.hosts[2], func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			body, _ := io.ReadAll(r.Body)
			w.Write(body)
		})
		body := strings.Repeat("x", 60_000)
		for range 20 {
			if r := m.roundTrip(fmt.Sprintf("PUT / HTTP/1.1\nHost: orders\nContent-Length: %d\n\n%s", len(body), body)); r.StatusCode != 200 || r.body != body {
				t.Fatalf("got %d, %d bytes", r.StatusCode, len(r.body))
			}
		}
		if refused.Load() == 0 || served.Load() != 20 {
			t.Errorf("refused %d, served %d", refused.Load(), served.Load())
		}
		if n := m.near().value(t, "meshd_retries_total", "dst", "orders", "reason", "status"); n != float64(refused.Load()) {
			t.Errorf("%v retries counted", n)
		}
	})
}

func TestLargeBodiesAreNotRetried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.service.Default.Retry.Statuses = []plan.StatusRange{{From: 503, To: 503}}
		m.apply()
		var calls atomic.Int32
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(503)
			io.WriteString(w, "mine")
		})
		for size, want := range map[int]int32{64 << 10: 2, 64<<10 + 1: 1} {
			calls.Store(0)
			r := m.roundTrip(fmt.Sprintf("PUT / HTTP/1.1\nHost: orders\nContent-Length: %d\n\n%s", size, strings.Repeat("x", size)))
			if r.StatusCode != 503 || r.body != "mine" || calls.Load() != want {
				t.Errorf("%d bytes: got %d %q after %d calls", size, r.StatusCode, r.body, calls.Load())
			}
		}
	})
}

func TestRetryBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		r := &m.service.Default.Retry
		r.Statuses = []plan.StatusRange{{From: 503, To: 503}}
		r.BudgetRatio, r.BudgetPerSec = 0.2, 1
		m.apply()
		var calls atomic.Int32
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			w.WriteHeader(503)
		})
		c := m.dial()
		for range 100 {
			c.send(get).receive("GET")
		}
		// 10 were saved up, 20 come of 100 calls.
		if n := calls.Load() - 100; n < 28 || n > 31 {
			t.Errorf("%d retries of 100 calls", n)
		}
		if n := m.near().value(t, "meshd_retry_budget_exhausted_total", "dst", "orders"); n < 69 || n > 72 {
			t.Errorf("%v retries held back", n)
		}
		time.Sleep(5 * time.Second)
		calls.Store(0)
		for range 10 {
			m.roundTrip(get)
		}
		if n := calls.Load() - 10; n < 6 || n > 8 {
			t.Errorf("%d retries of 10 calls after 5 s", n)
		}
	})
}

func TestTimeouts(t *testing.T) {
	silent := func(c net.Conn) { io.Copy(io.Discard, c) }
	f := func(what string, set func(*plan.Target), app func(net.Conn), request string, status int, code string, after time.Duration) {
		t.Helper()
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newMesh(t, 2)
				set(&m.service.Default)
				m.apply()
				m.serve(m.far(), app)
				began := time.Now()
				m.want(request, status, code)
				if d := time.Since(began); d < after || d > after+2*time.Second {
					t.Errorf("it took %v, want %v", d, after)
				}
			})
		})
	}
	f("response", func(p *plan.Target) {}, silent, get, 504, "response-timeout", 30*time.Second)
	f("request", func(p *plan.Target) { p.Timeouts.Request = 3 * time.Second }, silent, get, 504, "request-timeout", 3*time.Second)
	f("per try", func(p *plan.Target) { p.Retry.PerTry = 2 * time.Second }, silent, get, 504, "response-timeout", 4*time.Second)
	f("per try, POST", func(p *plan.Target) { p.Retry.PerTry = 2 * time.Second }, silent, "POST / HTTP/1.1\nHost: orders\nContent-Length: 0\n\n", 504, "response-timeout", 2*time.Second)
	f("request above tries", func(p *plan.Target) { p.Retry.PerTry = 2 * time.Second; p.Timeouts.Request = 3 * time.Second }, silent, get, 504, "request-timeout", 3*time.Second)
	f("body stalls", func(p *plan.Target) { p.Timeouts.Idle = 20 * time.Second }, silent, "POST / HTTP/1.1\nHost: orders\nContent-Length: 5\n\nhel", 408, "body-timeout", 20*time.Second)
	f("head stalls", func(p *plan.Target) {}, silent, "GET / HTTP/1.1\nHo", 408, "head-timeout", 10*time.Second)
	f("interim responses extend nothing", func(p *plan.Target) {}, func(c net.Conn) {
		go io.Copy(io.Discard, c)
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n"); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}, "GET / HTTP/1.0\n\n", 504, "response-timeout", 30*time.Second)
}

func TestSlowUploadIsNoTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
		c := m.dial().send("POST / HTTP/1.1\nHost: orders\nContent-Length: 10\n\n")
		for range 10 {
			time.Sleep(20 * time.Second)
			c.send("x")
		}
		if r := c.receive("POST"); r.body != "xxxxxxxxxx" {
			t.Errorf("got %d %q", r.StatusCode, r.body)
		}
	})
}

func TestStalledResponseIsCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serve(m.far(), func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
			io.Copy(io.Discard, c)
		})
		began := time.Now()
		r := m.roundTrip(get)
		if r.err == nil || r.body != "hel" || time.Since(began) != 5*time.Minute {
			t.Errorf("%q %v after %v", r.body, r.err, time.Since(began))
		}
	})
}

func TestIdleRaceIsRetriedOnAFreshConnection(t *testing.T) {
	f := func(what, request string, status int) {
		t.Helper()
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newMesh(t, 2)
				m.service.Default.Retry = plan.Retry{} // this is none of its business
				m.apply()
				// The application answers one request on each connection, and
				// hangs up when the next one comes.
				m.serve(m.far(), func(c net.Conn) {
					r := bufio.NewReader(c)
					q, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					io.Copy(io.Discard, q.Body)
					io.WriteString(c, strings.ReplaceAll(ok, "\n", "\r\n"))
					r.Peek(1)
				})
				c := m.dial()
				for i := range 10 {
					synctest.Wait() // until the connection is idle
					r := c.send(request).receive("GET")
					if i == 0 && r.StatusCode != 200 || i > 0 && r.StatusCode != status {
						t.Fatalf("request %d: got %d %q", i, r.StatusCode, r.body)
					}
				}
				if n := m.far().value(t, "meshd_retries_total", "reason", "stale"); status == 200 && n != 9 {
					t.Errorf("%v counted", n)
				}
			})
		})
	}
	f("GET", get, 200)
	f("PUT", "PUT / HTTP/1.1\nHost: orders\nContent-Length: 5\n\nhello", 200)
}

func TestBreaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 3)
		m.cluster.Balance = plan.RoundRobin
		m.cluster.Breaker = plan.Breaker{Consecutive: 5, SuccessRate: 0.8, Window: 10 * time.Second, MaxEjected: 0.5}
		m.apply()
		var failing atomic.Bool
		var bad, good atomic.Int32
		failing.Store(true)
		m.serveHTTP(m.hosts[1], func(w http.ResponseWriter, r *http.Request) {
			bad.Add(1)
			if failing.Load() {
				w.WriteHeader(500)
			}
		})
		m.serveHTTP(m.hosts[2], func(w http.ResponseWriter, r *http.Request) { good.Add(1) })
		call := func(n int) {
			c := m.dial()
			defer c.Close()
			for range n {
				c.send(get).receive("GET")
			}
		}
		call(50)
		if n := bad.Load(); n != 5 {
			t.Errorf("the failing instance was called %d times", n)
		}
		if n := m.near().value(t, "meshd_endpoints", "dst", "orders", "state", "ejected"); n != 1 {
			t.Errorf("%v ejected", n)
		}
		time.Sleep(2 * time.Second)
		call(50)
		if n := bad.Load(); n != 6 {
			t.Errorf("the failing instance was called %d times, probe included", n)
		}
		failing.Store(false)
		time.Sleep(4 * time.Second)
		call(50)
		if n := bad.Load(); n < 20 {
			t.Errorf("the instance that does well again was called %d times", n)
		}
		if n := m.near().value(t, "meshd_endpoint_ejections_total", "dst", "orders"); n != 2 {
			t.Errorf("%v ejections counted", n)
		}
	})
}

func TestStopWaitsForCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(10 * time.Second)
			io.WriteString(w, "ok")
		})
		busy, idle := m.dial().send(get), m.dial().send(get)
		idle.receive("GET")
		busy.receive("GET")
		busy.send(get)
		synctest.Wait()
		began := time.Now()
		if err := m.near().proxy.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("stopped after %v", d)
		}
		if r := busy.receive("GET"); r.body != "ok" {
			t.Errorf("the call in flight: %d %q", r.StatusCode, r.body)
		}
		for _, c := range []*client{busy, idle} {
			if _, err := c.Reader.ReadByte(); err != io.EOF {
				t.Errorf("after the stop: %v", err)
			}
		}
		if _, err := m.near().DialContext(t.Context(), "tcp", m.vip); err == nil {
			t.Error("calls are still taken")
		}
	})
}

func TestStopCutsWhatDoesNotEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serve(m.far(), func(c net.Conn) { io.Copy(io.Discard, c) })
		c := m.dial().send(get)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if err := m.near().proxy.Stop(ctx); err == nil || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		// Whether the caller is told before its connection ends is chance.
		if answer, _ := io.ReadAll(c.Reader); len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.1 50") {
			t.Errorf("the call ended with %q", answer)
		}
		if err := m.near().proxy.Stop(ctx); err != nil {
			t.Errorf("stopping again: %v", err)
		}
		if problems := m.near().proxy.Apply(&plan.Plan{}); len(problems) != 1 {
			t.Errorf("applying after a stop: %v", problems)
		}
	})
}

func TestListenerThatGoesDrains(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(10 * time.Second)
			io.WriteString(w, "ok")
		})
		idle, busy := m.dial().send(get), m.dial()
		idle.receive("GET")
		busy.send(get)
		synctest.Wait()
		if problems := m.near().proxy.Apply(&plan.Plan{Version: 99}); problems != nil {
			t.Fatal(problems)
		}
		began := time.Now()
		if _, err := idle.ReadByte(); err != io.EOF || time.Since(began) > 0 {
			t.Errorf("the idle connection: %v after %v", err, time.Since(began))
		}
		if r := busy.receive("GET"); r.body != "ok" || !r.Close {
			t.Errorf("the call in flight: %d %q, close %v", r.StatusCode, r.body, r.Close)
		}
		if _, err := m.near().DialContext(t.Context(), "tcp", m.vip); err == nil {
			t.Error("calls are still taken")
		}
		if v := m.near().proxy.Version(); v != 99 {
			t.Errorf("version %d", v)
		}
		m.apply()
		m.want(get, 200, "")
	})
}

// A failingListener cannot take connections for a while.
type failingListener struct {
	net.Listener
	failures atomic.Int32
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, syscall.EMFILE
	}
	return l.Listener.Accept()
}

func TestListenerOutlastsWantOfDescriptors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 1)
		ln, err := m.near().Listen(t.Context(), "tcp", "127.0.0.1:9")
		if err != nil {
			t.Fatal(err)
		}
		failing := &failingListener{Listener: ln}
		failing.failures.Store(3)
		taken := make(chan net.Conn, 1)
		l := newListener(failing, func(c net.Conn) { taken <- c })
		l.start()
		defer l.close()
		began := time.Now()
		c, err := m.near().DialContext(t.Context(), "tcp", "127.0.0.1:9")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		(<-taken).Close()
		if d := time.Since(began); d != 3*acceptPause {
			t.Errorf("taken after %v", d)
		}
	})
}

func TestListenerThatCannotBeOpened(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		l, err := m.near().Listen(t.Context(), "tcp", "127.128.0.9:80")
		if err != nil {
			t.Fatal(err)
		}
		p := &plan.Plan{Outbound: []plan.Listener{
			{Address: netip.MustParseAddrPort("127.128.0.9:80"), Service: m.copy()},
			{Address: netip.MustParseAddrPort("127.128.0.8:80"), Service: m.copy()},
		}}
		problems := m.near().proxy.Apply(p)
		if len(problems) != 1 || !strings.Contains(problems[0].Error(), "opening 127.128.0.9:80 for calls to service orders") {
			t.Errorf("problems %v", problems)
		}
		m.vip = "127.128.0.8:80"
		m.want(get, 503, "app-connect-failed")
		p.Outbound[0].Optional = true
		if problems := m.near().proxy.Apply(p); len(problems) != 0 {
			t.Errorf("problems %v", problems)
		}
		l.Close()
		if problems := m.near().proxy.Apply(p); len(problems) != 0 {
			t.Errorf("problems %v", problems)
		}
		m.vip = "127.128.0.9:80"
		m.want(get, 503, "app-connect-failed")
	})
}

// A call that nobody answers for is not served, not even as the host's.
func TestUnknownCallersAreNotServed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serve(m.far(), func(net.Conn) { t.Error("the application was called") })
		m.near().caller = ""
		conn, err := m.near().DialContext(t.Context(), "tcp", m.vip)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: orders\r\n\r\n")
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("%d bytes, error %v", n, err)
		}
		synctest.Wait()
		if n := m.near().value(t, "meshd_connections_refused_total", "direction", "outbound", "reason", "unknown"); n != 1 {
			t.Errorf("%v counted", n)
		}
	})
}
