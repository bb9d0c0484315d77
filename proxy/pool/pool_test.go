package pool

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/proxy/mtls"
	"github.com/meshd/meshd/proxy/mtls/mtlstest"
)

const (
	web    = "spiffe://mesh/svc/web"
	orders = "spiffe://mesh/svc/orders"
)

// A world is a pool and somebody to call on a network in memory.
type world struct {
	*Pool
	ca       *mtlstest.Authority
	app      *Peer
	link     *Peer
	accepted chan net.Conn
}

var (
	appTarget  = Target{Key: "app", Address: netip.MustParseAddrPort("127.0.0.1:8080")}
	linkTarget = Target{Key: "n1/orders", Address: netip.MustParseAddrPort("10.0.0.2:7443"),
		ServerName: "p8080.orders.svc.mesh", Identity: orders, Protocol: "http/1.1"}
)

func newWorld(t *testing.T) *world {
	t.Helper()
	n := memnet.New()
	near := n.Host("near", netip.MustParseAddr("10.0.0.1"))
	far := n.Host("far", netip.MustParseAddr("10.0.0.2"))
	w := &world{ca: mtlstest.New(), accepted: make(chan net.Conn, 100)}
	w.ca.Issue(web, orders)
	w.serve(t, near, "127.0.0.1:8080", func(c net.Conn) net.Conn { return c })
	server := mtls.Server(w.ca, func(string) (mtls.Host, bool) {
		return mtls.Host{Identity: orders, Protocols: []string{"http/1.1"}}, true
	})
	w.serve(t, far, "10.0.0.2:7443", func(c net.Conn) net.Conn { return tlsServer(c, server) })
	w.Pool = New(near, w.ca)
	t.Cleanup(func() {
		w.Pool.Close()
		synctest.Wait()
		for len(w.accepted) > 0 {
			(<-w.accepted).Close()
		}
	})
	peers := w.Use([]Target{appTarget, linkTarget})
	w.app, w.link = peers[appTarget], peers[linkTarget]
	return w
}

// serve accepts connections and reads from them until they end.
func (w *world) serve(t *testing.T, n netx.Network, address string, wrap func(net.Conn) net.Conn) {
	t.Helper()
	l, err := n.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c = wrap(c)
			w.accepted <- c
			go func() {
				defer c.Close()
				io.Copy(io.Discard, c)
			}()
		}
	}()
}

func get(t *testing.T, p *Peer, identity string) *Conn {
	t.Helper()
	c, err := p.Get(identity, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConnectionsAreReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, p := range []*Peer{w.app, w.link} {
			first, second := get(t, p, web), get(t, p, web)
			if first.Reused || second.Reused || first == second {
				t.Error("a new connection counts as used, or two calls share one")
			}
			first.Release()
			second.Release()
			if c := get(t, p, web); c != second || !c.Reused {
				t.Error("the last one used is not used again")
			}
		}
	})
}

func TestIdentitiesDoNotShareLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ca.Issue("spiffe://mesh/svc/billing")
		c := get(t, w.link, web)
		c.Release()
		if other := get(t, w.link, "spiffe://mesh/svc/billing"); other == c {
			t.Error("another identity got the link")
		}
		// Applications see no identity, and so no difference.
		a := get(t, w.app, web)
		a.Release()
		if other := get(t, w.app, "spiffe://mesh/svc/billing"); other != a {
			t.Error("another caller's connection to the application is not used")
		}
	})
}

func TestIdleConnectionsEnd(t *testing.T) {
	f := func(peer func(*world) *Peer, limit time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := peer(w)
			get(t, p, web).Release()
			time.Sleep(limit - 10*time.Millisecond)
			c := get(t, p, web)
			if !c.Reused {
				t.Errorf("not used again before %v", limit)
			}
			c.Release()
			time.Sleep(limit + sweep)
			synctest.Wait()
			if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("after %v: %v", limit, err)
			}
			if len(p.idle) != 0 {
				t.Errorf("left over: %v", p.idle)
			}
		})
	}
	f(func(w *world) *Peer { return w.app }, appIdle)
	f(func(w *world) *Peer { return w.link }, linkIdle)
}

func TestOldConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := get(t, w.link, web)
		for range 59 {
			time.Sleep(time.Minute - time.Second)
			c.Release()
			if again := get(t, w.link, web); again != c {
				return // after 54 minutes at the earliest, see setAge
			}
		}
		time.Sleep(2 * time.Minute)
		c.Release()
		if get(t, w.link, web) == c {
			t.Error("a connection is in use after more than an hour")
		}
	})
}

func TestConnectionsEndBeforeTheirCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		short := *w.ca.Certificate(web)
		leaf := *short.Leaf
		leaf.NotAfter = time.Now().Add(time.Minute)
		short.Leaf = &leaf
		w.ca.Set(web, &short)
		c := get(t, w.link, web)
		time.Sleep(31 * time.Second)
		c.Release()
		if get(t, w.link, web) == c {
			t.Error("a connection is in use after half of its certificate's life")
		}
	})
}

func TestRotatedCertificatesDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		idle, busy := get(t, w.link, web), get(t, w.link, web)
		idle.Release()
		w.ca.Issue(web)
		busy.Release()
		if c := get(t, w.link, web); c == idle || c == busy {
			t.Error("a connection with the old certificate is in use")
		}
	})
}

func TestTargetsThatLeaveDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		idle, busy := get(t, w.link, web), get(t, w.link, web)
		idle.Release()
		kept := w.Use([]Target{appTarget})[appTarget]
		if kept != w.app {
			t.Error("a target that stayed is another peer now")
		}
		if _, err := idle.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the idle one: %v", err)
		}
		if _, err := busy.Write([]byte("x")); err != nil {
			t.Errorf("the one in use: %v", err)
		}
		busy.Release()
		if _, err := busy.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the released one: %v", err)
		}
		if c := get(t, w.link, web); c == idle || c == busy {
			t.Error("calls that began earlier get a closed connection")
		}
	})
}

func TestDialErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.link.Get("spiffe://mesh/svc/none", time.Second); !errors.Is(err, mtls.ErrNoCertificate) {
			t.Errorf("without a certificate: %v", err)
		}
		wrong := linkTarget
		wrong.Identity = web
		nowhere := Target{Key: "nowhere", Address: netip.MustParseAddrPort("10.9.9.9:1")}
		peers := w.Use([]Target{wrong, nowhere})
		if _, err := peers[wrong].Get(web, time.Second); !mtls.IsIdentityError(err) {
			t.Errorf("to another identity: %v", err)
		}
		began := time.Now()
		if _, err := peers[nowhere].Get("", 3*time.Second); err == nil || time.Since(began) != 3*time.Second {
			t.Errorf("to nowhere: %v after %v", err, time.Since(began))
		}
	})
}

func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		idle, busy := get(t, w.link, web), get(t, w.app, web)
		idle.Release()
		w.Close()
		if _, err := busy.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the one in use: %v", err)
		}
		if _, err := w.app.Get("", time.Second); err == nil {
			t.Error("a closed pool dials")
		}
		busy.Release()
		if len(w.open) != 0 {
			t.Errorf("%d connections are left over", len(w.open))
		}
	})
}
