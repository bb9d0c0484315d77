package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/proxy/plan"
)

func TestRequestGoesTheWholeWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Seen", r.Method+" "+r.URL.String()+" "+r.Host+" "+r.Header.Get("Meshd-Client-Id"))
			w.Header().Set("Meshd-Error", "lies")
			io.WriteString(w, strings.ToUpper(string(body)))
		})
		c := m.dial()
		for range 3 {
			r := c.send("POST /a?b=c HTTP/1.1\nHost: orders.mesh\nContent-Length: 5\nMeshd-Client-Id: spiffe://mesh/svc/admin\n\nhello").receive("POST")
			if r.StatusCode != 200 || r.body != "HELLO" || r.Header.Get("X-Seen") != "POST /a?b=c orders.mesh "+web || r.Header.Get("Meshd-Error") != "" {
				t.Errorf("%d %v %q", r.StatusCode, r.Header, r.body)
			}
		}
	})
}

// script answers each request on a connection with the next of some raw
// responses, after it has read the request, and then closes it.
func script(responses ...string) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		for _, response := range responses {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if q.Header.Get("Expect") == "" {
				if _, err := io.Copy(io.Discard, q.Body); err != nil {
					return
				}
			}
			io.WriteString(c, strings.ReplaceAll(response, "\n", "\r\n"))
		}
	}
}

// forever answers every request with the same raw response.
func forever(response string) func(net.Conn) {
	all := make([]string, 1000)
	for i := range all {
		all[i] = response
	}
	return script(all...)
}

const ok = "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"

func TestResponses(t *testing.T) {
	f := func(what, request, response string, check func(t *testing.T, r *reply)) {
		t.Helper()
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newMesh(t, 2)
				m.serve(m.far(), script(response))
				method, _, _ := strings.Cut(request, " ")
				c := m.dial()
				check(t, c.send(request).receive(method))
			})
		})
	}
	is := func(status int, body string) func(t *testing.T, r *reply) {
		return func(t *testing.T, r *reply) {
			t.Helper()
			if r.StatusCode != status || r.body != body || r.err != nil {
				t.Errorf("got %d %q %v (%s)", r.StatusCode, r.body, r.err, r.Header.Get("Meshd-Error"))
			}
		}
	}
	f("length", get, ok, is(200, "ok"))
	f("chunked", get, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n", is(200, "ok"))
	f("until close", get, "HTTP/1.1 200 OK\n\nall there is", is(200, "all there is"))
	f("HTTP/1.0 until close", get, "HTTP/1.0 200 OK\n\nall there is", is(200, "all there is"))
	f("HEAD", "HEAD / HTTP/1.1\nHost: orders\n\n", "HTTP/1.1 200 OK\nContent-Length: 5\n\n", func(t *testing.T, r *reply) {
		is(200, "")(t, r)
		if r.ContentLength != 5 {
			t.Errorf("length is %d", r.ContentLength)
		}
	})
	f("204", get, "HTTP/1.1 204 No Content\n\n", is(204, ""))
	f("304", get, "HTTP/1.1 304 Not Modified\nContent-Length: 5\nETag: \"a\"\n\n", is(304, ""))
	f("empty", get, "HTTP/1.1 200 OK\nContent-Length: 0\n\n", is(200, ""))
	f("404", get, "HTTP/1.1 404 Not Found\nContent-Length: 2\n\nno", is(404, "no"))
	f("POST", "POST / HTTP/1.1\nHost: orders\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n", ok, is(200, "ok"))
	bad := func(code string) func(t *testing.T, r *reply) {
		return func(t *testing.T, r *reply) {
			t.Helper()
			if r.StatusCode != 502 || r.Header.Get("Meshd-Error") != code || strings.Contains(r.body, "ok") {
				t.Errorf("got %d %q %q", r.StatusCode, r.Header.Get("Meshd-Error"), r.body)
			}
		}
	}
	for _, response := range []string{
		"HTTP/1.1 200 OK\nContent-Length: 2\nTransfer-Encoding: chunked\n\n0\n\n", "HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nok",
		"HTTP/1.1 200 OK\nContent-Length: -1\n\nok", "HTTP/1.1 099 OK\nContent-Length: 2\n\nok", "HTTP/1.1 1000 OK\nContent-Length: 2\n\nok",
		"HTTP/1.1 abc OK\nContent-Length: 2\n\nok", "hello, world\n\n", "HTTP/1.1 200 OK\nX: a\x00b\nContent-Length: 2\n\nok",
		"HTTP/1.1 200 OK\nX: a\n b\nContent-Length: 2\n\nok", "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: upgrade\n\nok",
		"HTTP/1.1 200 OK\nX: " + strings.Repeat("a", 200<<10) + "\n\n",
	} {
		f(fmt.Sprintf("bad %.40q", response), get, response, bad("bad-response"))
	}
	f("cut head", "POST / HTTP/1.1\nHost: orders\nContent-Length: 0\n\n", "HTTP/1.1 200 OK\nContent-", bad("reset"))
}

func TestTruncatedResponsesAreSeen(t *testing.T) {
	f := func(request, response string) {
		t.Helper()
		bubble(t, func(t *testing.T) {
			m := newMesh(t, 2)
			m.serve(m.far(), script(response))
			c := m.dial()
			if r := c.send(request).receive("GET"); r.StatusCode != 200 || r.err == nil {
				t.Errorf("%q passes for a whole response: %q", response, r.body)
			}
		})
	}
	const old = "GET / HTTP/1.0\n\n"
	for _, request := range []string{get, old} {
		f(request, "HTTP/1.1 200 OK\nContent-Length: 5\n\nhel")
		f(request, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhel")
		f(request, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n")
		f(request, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\nzz\n")
	}
}

func TestTrailersPass(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		seen := make(chan http.Header, 1)
		m.serve(m.far(), func(c net.Conn) {
			q, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return
			}
			io.Copy(io.Discard, q.Body)
			seen <- q.Trailer
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\nContent-Length: 9\r\nMeshd-Error: x\r\n\r\n")
		})
		r := m.roundTrip("POST / HTTP/1.1\nHost: orders\nTE: trailers\nConnection: te\nTransfer-Encoding: chunked\n\n1\na\n0\nX-Sum: 1\nMeshd-Client-Id: x\nHost: y\n\n")
		if got := <-seen; len(got) != 1 || got.Get("X-Sum") != "1" {
			t.Errorf("request trailers %v", got)
		}
		if len(r.Trailer) != 1 || r.Trailer.Get("X-Sum") != "2" {
			t.Errorf("response trailers %v", r.Trailer)
		}
	})
}

func TestInterimResponses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serve(m.far(), forever("HTTP/1.1 102 Processing\n\n"+"HTTP/1.1 103 Early Hints\nLink: </a>\n\n"+strings.Repeat("HTTP/1.1 102 Processing\n\n", 5000)+ok))
		c := m.dial().send(get)
		var interim []int
		for {
			r := c.receive("GET")
			if r.StatusCode == 200 {
				break
			}
			interim = append(interim, r.StatusCode)
		}
		if len(interim) < 2 || len(interim) > 16 || interim[1] != 103 {
			t.Errorf("interim responses %v", interim)
		}
		// HTTP/1.0 knows none.
		if r := m.roundTrip("GET / HTTP/1.0\n\n"); r.StatusCode != 200 {
			t.Errorf("got %d", r.StatusCode)
		}
	})
}

func TestExpectContinue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/no" {
				w.WriteHeader(413)
				return
			}
			body, _ := io.ReadAll(r.Body)
			w.Write(body)
		})
		c := m.dial()
		for range 2 {
			c.send("POST / HTTP/1.1\nHost: orders\nExpect: 100-continue\nContent-Length: 5\n\n")
			if r := c.receive("POST"); r.StatusCode != 100 {
				t.Fatalf("got %d before the body", r.StatusCode)
			}
			if r := c.send("hello").receive("POST"); r.StatusCode != 200 || r.body != "hello" {
				t.Fatalf("got %d %q", r.StatusCode, r.body)
			}
		}
		// Refused without the body, whether it comes or not.
		for _, body := range []string{"", "hello"} {
			c := m.dial().send("POST /no HTTP/1.1\nHost: orders\nExpect: 100-continue\nContent-Length: 5\n\n")
			r := c.receive("POST")
			if r.StatusCode != 413 || !r.Close {
				t.Errorf("got %d, close %v", r.StatusCode, r.Close)
			}
			io.WriteString(c.Conn, body)
			if _, err := c.Reader.ReadByte(); err == nil {
				t.Error("something follows")
			}
		}
		m.want("POST / HTTP/1.1\nHost: orders\nExpect: 200-ok\nContent-Length: 0\n\n", 417, "expectation")
	})
}

func TestBodiesStreamBothWays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).EnableFullDuplex()
			buf := make([]byte, 1)
			for {
				if _, err := io.ReadFull(r.Body, buf); err != nil {
					return
				}
				w.Write(buf)
				w.(http.Flusher).Flush()
			}
		})
		c := m.dial().send("POST / HTTP/1.1\nHost: orders\nTransfer-Encoding: chunked\n\n1\na\n")
		r, err := http.ReadResponse(c.Reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1)
		io.ReadFull(r.Body, buf)
		for range 100 {
			c.send("1\nb\n")
			if _, err := io.ReadFull(r.Body, buf); err != nil || buf[0] != 'b' {
				t.Fatalf("%q %v", buf, err)
			}
			time.Sleep(time.Minute) // longer than any time limit, but not idle
		}
		c.send("0\n\n")
		if _, err := r.Body.Read(buf); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
		// The connection goes on.
		if r := c.send("POST / HTTP/1.1\nHost: orders\nContent-Length: 1\n\nx").receive("POST"); r.body != "x" {
			t.Errorf("got %q", r.body)
		}
	})
}

func TestEarlyAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serve(m.far(), func(c net.Conn) {
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		})
		c := m.dial()
		c.send("POST / HTTP/1.1\nHost: orders\nContent-Length: 100000000\n\n")
		go func() {
			for {
				if _, err := c.Conn.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}()
		if r := c.receive("POST"); r.StatusCode != 413 || r.body != "no" || r.err != nil {
			t.Errorf("got %d %q %v", r.StatusCode, r.body, r.err)
		}
		if _, err := c.Reader.ReadByte(); err == nil {
			t.Error("the connection goes on in the middle of a body")
		}
	})
}

func TestLargeBodies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).EnableFullDuplex()
			if r.URL.Path == "/sized" {
				w.Header().Set("Content-Length", r.Header.Get("X-Length"))
			}
			io.Copy(w, r.Body)
		})
		body := strings.Repeat("0123456789abcdef", 200_000)
		for _, path := range []string{"/sized", "/chunked"} {
			for _, chunked := range []bool{false, true} {
				c := m.dial()
				go func() {
					q, _ := http.NewRequest("POST", "http://orders"+path, io.MultiReader(strings.NewReader(body)))
					q.Header.Set("X-Length", fmt.Sprint(len(body)))
					if !chunked {
						q.ContentLength = int64(len(body))
					}
					q.Write(c.Conn)
				}()
				if r := c.receive("POST"); r.body != body || r.err != nil {
					t.Errorf("%s, chunked %v: %d bytes of %d, %v", path, chunked, len(r.body), len(body), r.err)
				}
			}
		}
	})
}

func TestPipelining(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s", r.URL, body)
		})
		c := m.dial()
		var all strings.Builder
		for i := range 50 {
			switch i % 3 {
			case 0:
				fmt.Fprintf(&all, "GET /%d HTTP/1.1\nHost: orders\n\n", i)
			case 1:
				fmt.Fprintf(&all, "POST /%d HTTP/1.1\nHost: orders\nContent-Length: 3\n\nabc\n", i)
			case 2:
				fmt.Fprintf(&all, "POST /%d HTTP/1.1\nHost: orders\nTransfer-Encoding: chunked\n\n3\nabc\n0\n\n", i)
			}
		}
		go c.send(all.String())
		for i := range 50 {
			want := fmt.Sprintf("/%d abc", i)
			if i%3 == 0 {
				want = fmt.Sprintf("/%d ", i)
			}
			if r := c.receive("GET"); r.body != want {
				t.Fatalf("got %q, want %q", r.body, want)
			}
		}
	})
}

func TestOldClients(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serve(m.far(), forever("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n"))
		c := m.dial().send("GET / HTTP/1.0\nConnection: keep-alive\n\n")
		raw, err := io.ReadAll(c)
		if want := "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok"; err != nil || !strings.EqualFold(string(raw), want) && string(raw) != "HTTP/1.1 200 OK\r\n\r\nok" {
			t.Errorf("got %q, %v", raw, err)
		}
	})
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serve(m.far(), forever(ok))
		c := m.dial()
		for range 2 {
			if r := c.send("GET / HTTP/1.0\nConnection: keep-alive\n\n").receive("GET"); r.body != "ok" || r.Header.Get("Connection") != "keep-alive" {
				t.Errorf("got %q, %v", r.body, r.Header)
			}
		}
		c.send("GET / HTTP/1.0\n\n").receive("GET")
		if _, err := c.Reader.ReadByte(); err != io.EOF {
			t.Errorf("after the last one: %v", err)
		}
	})
}

func TestHalfClosedClientIsAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(10 * time.Second)
			io.WriteString(w, "ok")
		})
		c := m.dial().send(get)
		c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		if r := c.receive("GET"); r.body != "ok" {
			t.Errorf("got %d %q", r.StatusCode, r.body)
		}
	})
}

func TestCallerThatLeavesEndsItsCall(t *testing.T) {
	f := func(what string, request string, leave func(*client)) {
		t.Helper()
		bubble(t, func(t *testing.T) {
			m := newMesh(t, 2)
			ended := make(chan error, 1)
			m.serve(m.far(), func(c net.Conn) {
				_, err := io.Copy(io.Discard, c)
				ended <- err
			})
			c := m.dial().send(request)
			time.Sleep(2 * time.Second)
			began := time.Now()
			leave(c)
			if err := <-ended; !errors.Is(err, syscall.ECONNRESET) && what == "body" {
				t.Errorf("%s: the application sees %v", what, err)
			}
			if d := time.Since(began); d > time.Second {
				t.Errorf("%s: the application sees it after %v", what, d)
			}
		})
	}
	f("waiting", get, func(c *client) { c.Conn.(interface{ SetLinger(int) error }).SetLinger(0); c.Close() })
	f("body", "POST / HTTP/1.1\nHost: orders\nContent-Length: 100\n\nhalf", func(c *client) { c.Close() })
	f("body", "POST / HTTP/1.1\nHost: orders\nTransfer-Encoding: chunked\n\n5\nhello\n", func(c *client) { c.Close() })
	f("body", "POST / HTTP/1.1\nHost: orders\nTransfer-Encoding: chunked\n\n5\nhello\n", func(c *client) { c.Conn.(interface{ CloseWrite() error }).CloseWrite() })
}

func TestRefusals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		calls := 0
		m.serveHTTP(m.far(), func(http.ResponseWriter, *http.Request) { calls++ })
		m.want("GET / HTTP/1.1\n\n", 400, "bad-request")
		m.want("POST / HTTP/1.1\nHost: orders\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n", 400, "bad-request")
		m.want("CONNECT orders:80 HTTP/1.1\nHost: orders:80\n\n", 501, "not-implemented")
		m.want("GET / HTTP/2.0\nHost: orders\n\n", 505, "version")
		m.want("GET /"+strings.Repeat("a", 10_000)+" HTTP/1.1\nHost: orders\n\n", 414, "target-too-long")
		m.want("GET / HTTP/1.1\nHost: orders\nX: "+strings.Repeat("a", 10_000)+"\n\n", 431, "head-too-large")
		m.want("POST / HTTP/1.1\nHost: orders\nTransfer-Encoding: chunked\n\nzz\n", 400, "bad-request")
		r := m.want("GET / HTTP/1.1\nHost: a b\n\n", 400, "bad-request")
		if !r.Close || r.Header.Get("Content-Type") != "text/plain; charset=utf-8" || !strings.Contains(r.body, "Host is not the name") {
			t.Errorf("%v %q", r.Header, r.body)
		}
		// What follows a refused request is not looked at.
		c := m.dial().send("POST / HTTP/1.1\nHost: orders\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n" + get)
		c.receive("POST")
		if _, err := c.Reader.ReadByte(); err != io.EOF {
			t.Errorf("something follows: %v", err)
		}
		if calls != 0 {
			t.Errorf("%d requests came through", calls)
		}
	})
}

func TestPathsAreCanonicalWhereRulesReadThem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) })
		request := func(path string) string { return "GET " + path + " HTTP/1.1\nHost: orders\n\n" }
		const odd = "/a//b/%2e%2e/%2fc;d\\?e=%zz"
		if r := m.roundTrip(request(odd)); r.body != odd {
			t.Errorf("without rules, %q became %q", odd, r.body)
		}
		m.service.Rules = []plan.Rule{{Match: plan.Match{Path: "/v2", Prefix: true}, Target: m.service.Default}}
		m.apply()
		m.want(request(odd), 400, "ambiguous-path")
		if r := m.roundTrip(request("/%61?b=%61//..")); r.body != "/a?b=%61//.." {
			t.Errorf("with rules, it became %q", r.body)
		}
		m.service.Rules = nil
		m.far().inbound.Policies = []plan.Policy{{Name: "p", Rules: []plan.PolicyRule{
			{Deny: true, From: []plan.CallerPattern{{ID: web}}, Paths: []plan.PathPattern{{Path: "/admin", Prefix: true}}},
		}}}
		m.apply()
		m.want(request(odd), 400, "ambiguous-path")
		m.want(request("/%61dmin/x"), 403, "denied")
		m.want(request("/administrator"), 200, "")
	})
}

func TestManyHeads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Echo", r.Header.Get("X-Big-7"))
			fmt.Fprintf(w, "%d %s", len(r.Header), body)
		})
		c := m.dial()
		for _, n := range []int{1, 60, 3, 62, 62, 0} {
			raw := "POST / HTTP/1.1\nHost: orders\nContent-Length: 5\n"
			for i := range n {
				raw += fmt.Sprintf("X-Big-%d: %s\n", i, strings.Repeat("a", 1000))
			}
			if r := c.send(raw + "\nhello").receive("POST"); r.StatusCode != 200 || !strings.HasSuffix(r.body, " hello") || n > 7 && len(r.Header.Get("X-Echo")) != 1000 {
				t.Errorf("%d fields: got %d %q", n, r.StatusCode, r.body)
			}
		}
	})
}

func TestIdleConnectionsEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serve(m.far(), forever(ok))
		c := m.dial().send(get)
		c.receive("GET")
		began := time.Now()
		if _, err := c.Reader.ReadByte(); err != io.EOF || time.Since(began) != 5*time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		synctest.Wait()
	})
}
