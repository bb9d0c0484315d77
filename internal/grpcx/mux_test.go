package grpcx

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// Silent connections are cut in time, and no more than so many are taken at
// once; whoever waits is served then.
func TestMuxBoundsHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, grpcs, _ := w.mux(w.server())
		m.Start()
		defer m.Close()
		var silent []net.Conn
		for range maxHandshakes {
			c, err := w.vm1.DialContext(t.Context(), "tcp", "s1:7300")
			must(t, err)
			defer c.Close()
			silent = append(silent, c)
		}
		start := time.Now()
		go func() {
			c, err := w.agent().Dial(t.Context(), w.vm1, "s1:7300", GRPC)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
		}()
		s, err := grpcs.Accept()
		must(t, err)
		defer s.Close()
		if took := time.Since(start); took != handshakeTimeout {
			t.Errorf("served after %v", took)
		}
		for _, c := range silent {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("a silent connection lives")
			}
		}
	})
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
