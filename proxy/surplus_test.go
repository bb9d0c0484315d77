package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// Bytes that nobody asked for are never taken for the answer to a later call.
// Sockets tell of them before a connection is used again, so this is on real
// ones.
func TestSurplusIsNoAnswer(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	f := func(what, request, response string, late bool) {
		t.Helper()
		t.Run(what, func(t *testing.T) {
			m := newRealMesh(t, 2)
			poisoned := make(chan struct{}, 100)
			m.serve(m.far(), func(c net.Conn) {
				r := bufio.NewReader(c)
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				raw := strings.ReplaceAll(response, "\n", "\r\n")
				if !late {
					raw += evil
				}
				io.WriteString(c, raw)
				if late {
					io.WriteString(c, evil)
				}
				poisoned <- struct{}{}
				io.Copy(io.Discard, r)
			})
			c := m.dial()
			method, _, _ := strings.Cut(request, " ")
			for range 5 {
				if r := c.send(request).receive(method); r.body == "evil" || r.StatusCode != 200 && r.StatusCode != 204 && r.StatusCode != 304 {
					t.Fatalf("got %d %q", r.StatusCode, r.body)
				}
				<-poisoned
			}
		})
	}
	f("glued", get, ok, false)
	f("late", get, ok, true)
	f("after HEAD", "HEAD / HTTP/1.1\nHost: orders\n\n", ok, false)
	f("after 204", get, "HTTP/1.1 204 No Content\n\n", false)
	f("after 304", get, "HTTP/1.1 304 Not Modified\n\n", false)
	f("after chunks", get, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n", false)
}
