package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/meshd/meshd/proxy/plan"
)

// anyError retries whatever status says that a call has failed.
var anyError = []plan.StatusRange{{From: 500, To: 599}}

// A response before the answer does not take the place of one.
func TestAnswerFollowsInterimResponses(t *testing.T) {
	const hints, failure = "HTTP/1.1 103 Early Hints\nLink: </a>\n\n", "HTTP/1.1 503 x\nContent-Length: 4\n\nmine"
	f := func(what, request, response string, interim, status int, code string) {
		t.Helper()
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newMesh(t, 2)
				m.service.Default.Retry.Statuses = anyError
				m.apply()
				var calls atomic.Int32
				answer := script(response)
				m.serve(m.far(), func(c net.Conn) { calls.Add(1); answer(c) })
				c := m.dial().send(request)
				method, _, _ := strings.Cut(request, " ")
				if r := c.receive(method); r.StatusCode != interim {
					t.Fatalf("got %d at first", r.StatusCode)
				}
				if strings.Contains(request, "Expect") {
					c.send("hello")
				}
				r := c.receive(method)
				if r.StatusCode != status || r.Header.Get("Meshd-Error") != code || code == "" && r.body != "mine" {
					t.Errorf("got %d %q %q", r.StatusCode, r.Header.Get("Meshd-Error"), r.body)
				}
				if n := calls.Load(); n != 1 {
					t.Errorf("the application was called %d times", n)
				}
			})
		})
	}
	const expects = " / HTTP/1.1\nHost: orders\nExpect: 100-continue\nContent-Length: 5\n\n"
	f("a status that is retried", get, hints+failure, 103, 503, "")
	f("the application hangs up", get, hints, 103, 502, "reset")
	f("the response is garbage", get, hints+"HTTP/2 200\n\n", 103, 502, "bad-response")
	f("it hangs up, POST", "POST"+expects, "HTTP/1.1 100 Continue\n\n", 100, 502, "reset")
	f("it hangs up, PUT", "PUT"+expects, "HTTP/1.1 100 Continue\n\n", 100, 502, "reset")
}

// What is retried by status is what the application itself has said, and only
// for methods that may be repeated.
func TestWhatMayBeMadeTwice(t *testing.T) {
	f := func(method, response string, local bool, status int, code string, twice bool) {
		t.Helper()
		t.Run(fmt.Sprintf("%s %.12s local %v", method, response, local), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newMesh(t, 2)
				m.service.Default.Retry.Statuses = anyError
				m.service.Default.Retry.Reset = false
				m.apply()
				if local {
					m.local()
				}
				var calls atomic.Int32
				m.serve(m.hosts[map[bool]int{true: 0, false: 1}[local]], func(c net.Conn) {
					if q, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
						io.Copy(io.Discard, q.Body)
						calls.Add(1)
						io.WriteString(c, strings.ReplaceAll(response, "\n", "\r\n"))
					}
				})
				m.want(method+" / HTTP/1.1\nHost: orders\nContent-Length: 5\n\nhello", status, code)
				if n := calls.Load(); n != map[bool]int32{true: 2, false: 1}[twice] {
					t.Errorf("the application was called %d times", n)
				}
			})
		})
	}
	for _, local := range []bool{false, true} {
		f("POST", "", local, 502, "reset", false)
		f("PATCH", "", local, 502, "reset", false)
		f("POST", "junk\n\n", local, 502, "bad-response", false)
		f("PUT", "", local, 502, "reset", false) // reset is not configured
		for _, method := range []string{"POST", "PATCH", "LOCK"} {
			f(method, "HTTP/1.1 502 x\nContent-Length: 0\n\n", local, 502, "", false)
		}
		for _, method := range []string{"GET", "OPTIONS", "TRACE", "PUT", "DELETE"} {
			f(method, "HTTP/1.1 502 x\nContent-Length: 0\n\n", local, 502, "", true)
		}
	}
}

// A call that comes to an instance on the caller's own host by a retry only is
// judged, and forwarded, as if it had come there at once.
func TestRetryWithinTheHost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 3)
		m.cluster.Balance = plan.RoundRobin
		m.local()
		m.near().inbound.Policies = []plan.Policy{{Name: "p", Rules: []plan.PolicyRule{
			{Deny: true, From: []plan.CallerPattern{{ID: web}}, Paths: []plan.PathPattern{{Path: "/admin", Prefix: true}}},
		}}}
		m.apply()
		m.serveHTTP(m.near(), func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) })
		for range 10 {
			if r := m.want("GET /%61/b?%61 HTTP/1.1\nHost: orders\n\n", 200, ""); r.body != "/a/b?%61" {
				t.Errorf("%q was forwarded", r.body)
			}
			m.want("GET /%61dmin HTTP/1.1\nHost: orders\n\n", 403, "denied")
			m.want("GET /b//c HTTP/1.1\nHost: orders\n\n", 400, "ambiguous-path")
		}
		if n := m.near().value(t, "meshd_retries_total", "reason", "connect"); n < 10 {
			t.Errorf("%v retries", n)
		}
	})
}

// A stream that came to another host by a retry is none of the instance's here.
func TestRetryAwayFromTheHost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 3)
		m.cluster.Balance = plan.RoundRobin
		m.local()
		m.serve(m.hosts[2], shout)
		var streams []*client
		for range 4 {
			c := m.dial().send(upgrade)
			c.receive("GET")
			c.expect("EARLY")
			streams = append(streams, c)
		}
		m.near().inbound.Policies = only(billing)
		m.apply()
		for _, c := range streams {
			c.send("hello").expect("HELLO")
		}
	})
}
