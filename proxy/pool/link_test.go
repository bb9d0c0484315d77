package pool

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/http2/session"
	"github.com/meshd/meshd/proxy/mtls"
	"github.com/meshd/meshd/proxy/mtls/mtlstest"
)

// A shared world is a pool and an agent that speaks HTTP/2.
type shared struct {
	*Pool
	t    *testing.T
	ca   *mtlstest.Authority
	link *Peer
	cut  func() // between the two hosts

	mu    sync.Mutex
	conns []net.Conn // that the agent has accepted
}

func newShared(t *testing.T, protocols ...string) *shared {
	t.Helper()
	n := memnet.New()
	w := &shared{t: t, ca: mtlstest.New()}
	w.ca.Issue(web, orders, "spiffe://mesh/svc/billing")
	near, far := n.Host("near", netip.MustParseAddr("10.0.0.1")), n.Host("far", netip.MustParseAddr("10.0.0.2"))
	w.cut = func() { n.Partition([]*memnet.Host{near}, []*memnet.Host{far}) }
	w.serve(far, protocols)
	w.Pool = New(near, w.ca)
	t.Cleanup(w.Pool.Close)
	target := linkTarget
	target.Multiplexed = true
	w.link = w.Use([]Target{target})[target]
	return w
}

func (w *shared) serve(n *memnet.Host, protocols []string) {
	l, err := n.Listen(w.t.Context(), "tcp", "10.0.0.2:7443")
	if err != nil {
		w.t.Fatal(err)
	}
	config := mtls.Server(w.ca, func(string) (mtls.Host, bool) {
		return mtls.Host{Identity: orders, Protocols: protocols}, true
	})
	var running sync.WaitGroup
	w.t.Cleanup(func() {
		l.Close()
		for _, c := range w.conns {
			c.Close()
		}
		running.Wait()
	})
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.conns = append(w.conns, c)
			w.mu.Unlock()
			running.Go(func() { w.answer(tls.Server(c, config)) })
		}
	})
}

// answer answers whatever is asked by HTTP/2, and nothing else.
func (w *shared) answer(c *tls.Conn) {
	defer c.Close()
	if c.Handshake() != nil || c.ConnectionState().NegotiatedProtocol != mtls.HTTP2 {
		return
	}
	session.New(session.Config{Config: LinkStreams(), Conn: c, Serve: func(st *session.Stream) {
		r := exchange.Response{Status: 204, Header: exchange.Header{Length: -1}}
		st.SendResponse(&r, false, true)
		st.End(nil)
	}}).Run()
}

func (w *shared) reach(identity string, fresh, plain bool) Way {
	w.t.Helper()
	way, err := w.link.Reach(identity, 3*time.Second, fresh, plain)
	if err != nil {
		w.t.Fatal(err)
	}
	return way
}

// call makes a call on a stream.
func (w *shared) call(way Way) {
	w.t.Helper()
	defer way.Stream.Release()
	r := exchange.Request{Method: []byte("GET"), Path: []byte("/"), Header: exchange.Header{Length: -1}}
	way.Stream.SendRequest(&r, "orders", "", true)
	if answer, err := way.Stream.Response(); err != nil || answer.Status != 204 {
		w.t.Errorf("answered by %v, %v", answer, err)
	}
}

func (w *shared) accepted() int {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.conns)
}

func TestCallsShareALink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShared(t, mtls.HTTP2, "http/1.1")
		var running sync.WaitGroup
		for range 100 {
			running.Go(func() { w.call(w.reach(web, false, false)) })
		}
		running.Wait()
		if n := w.accepted(); n != 1 {
			t.Errorf("100 calls have opened %d connections", n)
		}
		if way := w.reach(web, false, false); !way.Reused {
			t.Error("a used link counts as fresh")
		} else {
			way.Stream.Release()
		}
		// Another identity never, nor what must be fresh or plain.
		w.call(w.reach("spiffe://mesh/svc/billing", false, false))
		if way := w.reach(web, true, false); way.Reused {
			t.Error("a fresh connection was used")
		} else {
			w.call(way)
		}
		if way := w.reach(web, false, true); way.Conn == nil {
			t.Error("a plain call got a stream")
		} else {
			way.Conn.Close()
		}
		if n := w.accepted(); n != 4 {
			t.Errorf("there are %d connections, not 4", n)
		}
	})
}

func TestLinksHaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShared(t, mtls.HTTP2)
		var ways []Way
		for range LinkStreams().Streams + 1 {
			way := w.reach(web, false, false)
			r := exchange.Request{Method: []byte("GET"), Path: []byte("/"), Header: exchange.Header{Length: -1}}
			way.Stream.SendRequest(&r, "orders", "", false)
			ways = append(ways, way)
			synctest.Wait()
		}
		if n := w.accepted(); n != 2 {
			t.Errorf("one call more than fits has led to %d links", n)
		}
		for _, way := range ways {
			way.Stream.Release()
		}
	})
}

func TestAgentsWithoutHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShared(t, "http/1.1")
		first, second := w.reach(web, false, false), w.reach(web, false, false)
		if first.Conn == nil || second.Conn == nil || first.Conn == second.Conn {
			t.Fatal("calls to an agent that speaks HTTP/1.1 have no connections of their own")
		}
		first.Conn.Close()
		second.Conn.Close()
	})
}

func TestLinksEnd(t *testing.T) {
	f := func(what string, end func(w *shared)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newShared(t, mtls.HTTP2)
			w.call(w.reach(web, false, false))
			end(w)
			w.call(w.reach(web, false, false))
			if n := w.accepted(); n != 2 {
				t.Errorf("%s: %d links", what, n)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			w.link.mu.Lock()
			defer w.link.mu.Unlock()
			if len(w.link.links[web]) != 1 || len(w.open) != 1 {
				t.Errorf("%s: %d links are left over", what, len(w.link.links[web]))
			}
		})
	}
	f("a new certificate", func(w *shared) { w.ca.Issue(web) })
	f("age", func(w *shared) { time.Sleep(maxAge) })
	f("no use", func(w *shared) { time.Sleep(linkIdle + 5*time.Second) })
	f("the other agent's end", func(w *shared) { w.conns[0].Close(); synctest.Wait() })
}

func TestSilentLinksAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShared(t, mtls.HTTP2)
		way := w.reach(web, false, false)
		defer way.Stream.Release()
		r := exchange.Request{Method: []byte("GET"), Path: []byte("/"), Header: exchange.Header{Length: -1}}
		synctest.Wait()
		began := time.Now()
		w.cut()
		way.Stream.SendRequest(&r, "orders", "", false)
		_, err := way.Stream.Response()
		if took := time.Since(began); !errors.Is(err, session.ErrSilent) || took > linkSilence+linkAnswer+time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}
