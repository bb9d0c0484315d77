package grpcx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/mesh"
)

func TestMuxSplitsByProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, grpcs, rafts := w.mux(w.server())
		m.Start()
		defer m.Close()
		f := func(alpn string, l net.Listener) {
			t.Helper()
			c, err := w.server().Dial(t.Context(), w.vm1, "s1:7300", alpn)
			must(t, err)
			defer c.Close()
			s, err := l.Accept()
			must(t, err)
			defer s.Close()
			if id, ok := s.(*Conn).Peer(); !ok || id.Kind != mesh.KindServer {
				t.Errorf("%s: the peer is %v, %v", alpn, id, ok)
			}
			_, err = c.Write([]byte(alpn))
			must(t, err)
			got := make([]byte, len(alpn))
			if _, err := io.ReadFull(s, got); string(got) != alpn || err != nil {
				t.Errorf("%s: read %q, %v", alpn, got, err)
			}
		}
		f(GRPC, grpcs)
		f(Raft, rafts)
		f(GRPC, grpcs)
		if got := grpcs.Addr().String(); got != "[::]:7300" {
			t.Errorf("address %s", got)
		}
	})
}

// refuses dials with a configuration and returns how the connection ended.
func refuses(t *testing.T, w *world, config *tls.Config) error {
	t.Helper()
	raw, err := w.vm1.DialContext(t.Context(), "tcp", "s1:7300")
	must(t, err)
	defer raw.Close()
	c := tls.Client(raw, config)
	if err := c.Handshake(); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(time.Second))
	_, err = c.Read(make([]byte, 1))
	return err
}

func TestMuxRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, _, _ := w.mux(w.server())
		m.Start()
		defer m.Close()
		f := func(name string, as TLS, change func(*tls.Config), want string) {
			t.Helper()
			config := as.client(Raft)
			change(config)
			if err := refuses(t, w, config); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
		same := func(*tls.Config) {}
		f("a host on Raft", w.agent(), same, "bad certificate")
		f("a service on Raft", w.as(mesh.ServiceIdentity(domain, "s1")), same, "bad certificate")
		f("nobody on Raft", w.nobody(), same, "bad certificate")
		f("another mesh", func() TLS { t := newWorld(t).server(); t.Roots = w.roots; return t }(), same, "bad certificate")
		f("unknown protocol", w.server(), func(c *tls.Config) { c.NextProtos = []string{"other"} }, "no application protocol")
		f("no protocol", w.server(), func(c *tls.Config) { c.NextProtos = nil }, "bad certificate")
		f("TLS 1.2", w.server(), func(c *tls.Config) { c.MinVersion, c.MaxVersion = 0, tls.VersionTLS12 }, "protocol version")
	})
}

func TestDialNeedsTheProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, err := w.s1.Listen(t.Context(), "tcp", ":7300")
		must(t, err)
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			config := w.server().server() // that knows no protocol at all
			tls.Server(c, config).Handshake()
		}()
		if _, err := w.server().Dial(t.Context(), w.vm1, "s1:7300", Raft); err == nil || !strings.Contains(err.Error(), "does not speak") {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.server().Dial(ctx, w.vm1, "10.9.9.9:7300", Raft); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

// honest has a host call in, and fails if that takes as long as a second.
func (w *world) honest(as TLS, h *memnet.Host, grpcs net.Listener) (client, server net.Conn) {
	w.t.Helper()
	start := time.Now()
	client, err := as.Dial(w.t.Context(), h, "s1:7300", GRPC)
	must(w.t, err)
	server, err = grpcs.Accept()
	must(w.t, err)
	if took := time.Since(start); took >= time.Second {
		w.t.Errorf("served after %v", took)
	}
	return client, server
}

// flood opens connections that never say a word.
func (w *world) flood(h *memnet.Host, n int) (silent []net.Conn) {
	w.t.Helper()
	for range n {
		c, err := h.DialContext(w.t.Context(), "tcp", "s1:7300")
		must(w.t, err)
		silent = append(silent, c)
	}
	return silent
}

// A flood from one source takes what one source may have, a flood from many all
// there is; either way the next host is served at once, and again when the
// silence of all has been long enough.
func TestMuxUnderFlood(t *testing.T) {
	f := func(name string, sources, each, live int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			m, grpcs, _ := w.mux(w.server())
			m.Start()
			defer m.Close()
			var silent []net.Conn
			for i := range sources {
				h := w.net.Host(fmt.Sprint("stranger", i), netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}))
				silent = append(silent, w.flood(h, each)...)
			}
			c, s := w.honest(w.agent(), w.vm1, grpcs)
			defer c.Close()
			defer s.Close()
			if n := count(silent, open); n != live {
				t.Errorf("%s: %d silent connections are open, want %d", name, n, live)
			}
			time.Sleep(helloTimeout)
			if n := count(silent, open); n != 0 {
				t.Errorf("%s: %d silent connections live on", name, n)
			}
			if !open(s) || !open(c) {
				t.Errorf("%s: the honest host was cut off", name)
			}
		})
	}
	f("one source", 1, 5*maxPerSource, maxPerSource)
	// The honest host is there as well for a moment, and one stranger pays for it.
	f("many sources", maxStrangers/maxPerSource+4, maxPerSource, maxStrangers-1)
}

// Who has said something may take longer than who is silent, but not for ever.
func TestMuxCutsSlowHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, _, _ := w.mux(w.server())
		m.Start()
		defer m.Close()
		raw := w.flood(w.vm1, 1)[0]
		go tls.Client(sendOnly{raw}, w.agent().client(GRPC)).Handshake()
		time.Sleep(handshakeTimeout - time.Millisecond)
		if !open(raw) {
			t.Error("cut off too early")
		}
		time.Sleep(2 * time.Millisecond)
		if open(raw) {
			t.Error("it lives on")
		}
	})
}

// A sendOnly is a client that says hello and then hears nothing.
type sendOnly struct{ net.Conn }

func (sendOnly) Read([]byte) (int, error) { return 0, io.EOF }
func (sendOnly) Close() error             { return nil }

// Without a certificate anybody can make a handshake, so such peers stay in the
// gate, while who has one leaves it.
func TestMuxKeepsStrangersInTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, grpcs, _ := w.mux(w.server())
		m.Start()
		defer m.Close()
		agent := w.agent()
		var known, unknown []net.Conn
		for range 3 {
			c, s := w.honest(w.nobody(), w.vm1, grpcs)
			defer c.Close()
			defer s.Close()
			unknown = append(unknown, c)
			c, s = w.honest(agent, w.vm1, grpcs)
			defer c.Close()
			defer s.Close()
			known = append(known, c)
			time.Sleep(helloTimeout)
		}
		w.flood(w.vm1, maxPerSource-1)
		synctest.Wait()
		if n := count(unknown, open); n != 1 || !open(unknown[2]) {
			t.Errorf("%d connections of strangers are open", n)
		}
		if n := count(known, open); n != 3 {
			t.Errorf("%d connections of the agent are open", n)
		}
	})
}

func count(conns []net.Conn, f func(net.Conn) bool) (n int) {
	for _, c := range conns {
		if f(c) {
			n++
		}
	}
	return n
}

// open reads until nothing comes.
func open(c net.Conn) bool {
	c.SetReadDeadline(time.Now().Add(time.Microsecond))
	_, err := io.Copy(io.Discard, c)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func TestMuxCutsWhatNobodyAccepts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, grpcs, _ := w.mux(w.server())
		m.Start()
		defer m.Close()
		f := func(after time.Duration) {
			t.Helper()
			c, err := w.agent().Dial(t.Context(), w.vm1, "s1:7300", GRPC)
			must(t, err)
			defer c.Close()
			start := time.Now()
			if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(start) != after {
				t.Errorf("%v after %v, want %v", err, time.Since(start), after)
			}
		}
		f(handshakeTimeout)
		grpcs.Close()
		f(0)
		if _, err := grpcs.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accepting after Close: %v", err)
		}
	})
}

// Close ends what is under way and leaves alone what was handed over. That no
// goroutine stays is the bubble's to check.
func TestMuxClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, grpcs, rafts := w.mux(w.server())
		m.Start()
		c, err := w.agent().Dial(t.Context(), w.vm1, "s1:7300", GRPC)
		must(t, err)
		defer c.Close()
		s, err := grpcs.Accept()
		must(t, err)
		defer s.Close()
		silent, err := w.vm1.DialContext(t.Context(), "tcp", "s1:7300")
		must(t, err)
		defer silent.Close()
		synctest.Wait()
		must(t, m.Close())
		if _, err := silent.Read(make([]byte, 1)); err == nil {
			t.Error("a handshake outlives Close")
		}
		if _, err := rafts.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accepting after Close: %v", err)
		}
		if _, err := s.Write([]byte("x")); err != nil {
			t.Errorf("a connection that was handed over: %v", err)
		}
	})
}

// failing is a listener that is out of file descriptors for a while.
type failing struct {
	net.Listener
	left int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left > 0 {
		f.left--
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

func TestMuxOutlivesAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, err := w.s1.Listen(t.Context(), "tcp", ":7300")
		must(t, err)
		m := NewMux(&failing{l, 12}, w.server(), quiet())
		grpcs := m.Listen(GRPC, Anybody)
		start := time.Now()
		m.Start()
		defer m.Close()
		c, err := w.agent().Dial(t.Context(), w.vm1, "s1:7300", GRPC)
		must(t, err)
		defer c.Close()
		s, err := grpcs.Accept()
		must(t, err)
		defer s.Close()
		if took := time.Since(start); took < 4*time.Second || took > 6*time.Second {
			t.Errorf("served after %v", took)
		}
	})
}
