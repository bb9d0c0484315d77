package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
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
