package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// open reads until nothing comes.
func open(c net.Conn) bool {
	c.SetReadDeadline(time.Now().Add(time.Microsecond))
	_, err := io.Copy(io.Discard, c)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func countOpen(conns []net.Conn) (n int) {
	for _, c := range conns {
		if open(c) {
			n++
		}
	}
	return n
}

// connect opens connections from a host that say nothing.
func (m *mesh) connect(h *host, address string, n int) (conns []net.Conn) {
	m.t.Helper()
	for range n {
		c, err := h.DialContext(m.t.Context(), "tcp", address)
		if err != nil {
			m.t.Fatal(err)
		}
		m.t.Cleanup(func() { c.Close() })
		conns = append(conns, c)
	}
	return conns
}

// However many silent connections one host opens, it holds no more than its
// share, and the calls of others are served at once.
func TestLinksUnderFlood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 3)
		m.cluster.Endpoints = m.cluster.Endpoints[:1]
		m.apply()
		m.serveHTTP(m.far(), func(http.ResponseWriter, *http.Request) {})
		const surplus = 500
		silent := m.connect(m.hosts[2], m.far().link.String(), maxPerSource+surplus)
		synctest.Wait()
		began := time.Now()
		m.want(get, 200, "")
		if d := time.Since(began); d >= time.Second {
			t.Errorf("served after %v", d)
		}
		if n := countOpen(silent); n != maxPerSource {
			t.Errorf("%d silent connections are open", n)
		}
		time.Sleep(helloTimeout)
		if n := countOpen(silent); n != 0 {
			t.Errorf("%d silent connections live on", n)
		}
		refused := func(reason string, want float64) {
			t.Helper()
			if n := m.far().value(t, "meshd_connections_refused_total", "direction", "inbound", "reason", reason); n != want {
				t.Errorf("%v counted as %s, want %v", n, reason, want)
			}
		}
		refused("crowded", surplus)
		refused("silent", maxPerSource)
		refused("handshake", 0)
	})
}

// Beyond what a proxy serves, connections are closed at once; when one ends,
// there is room again. Links and calls do not take each other's room.
func TestNoMoreThanSoManyAreServed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(http.ResponseWriter, *http.Request) {})
		m.near().proxy.conns.max, m.far().proxy.conns.max = 3, 1
		calls := m.connect(m.near(), m.vip, 5)
		synctest.Wait()
		if n := countOpen(calls); n != 3 {
			t.Errorf("%d calls are open", n)
		}
		if n := m.near().value(t, "meshd_connections_refused_total", "direction", "outbound", "reason", "full"); n != 2 {
			t.Errorf("%v counted", n)
		}
		for _, c := range calls {
			c.Close()
		}
		synctest.Wait()
		m.want(get, 200, "")
		// That call's link is idle now, and takes the only place for links.
		if c, err := m.agent(web, nil); err == nil && open(c) {
			t.Error("a second link is served")
		}
		if n := m.far().value(t, "meshd_connections_refused_total", "direction", "inbound", "reason", "full"); n != 1 {
			t.Errorf("%v counted", n)
		}
		m.want(get, 200, "")
	})
}
