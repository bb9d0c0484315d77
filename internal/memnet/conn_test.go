package memnet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

func twoHosts() (n *Net, a, b *Host) {
	n = New()
	return n, n.Host("a", netip.MustParseAddr("10.0.0.1")), n.Host("b", netip.MustParseAddr("10.0.0.2"))
}

// connect gives both ends of a connection from one host to another.
func connect(t testing.TB, from, to *Host) (client, server net.Conn) {
	t.Helper()
	l, err := to.Listen(t.Context(), "tcp", to.IP().String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = from.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestConformance(t *testing.T) {
	f := func(name string, latency time.Duration) {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				n, a, b := twoHosts()
				n.SetLatency(a, b, latency)
				c, s := connect(t, a, b)
				return c, s, func() { c.Close(); s.Close() }, nil
			})
		})
	}
	f("direct", 0)
	f("with latency", 10*time.Microsecond)
}

func mustWrite(t testing.TB, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatalf("write %q: %v", s, err)
	}
}

func mustRead(t testing.TB, c io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got, err, want)
	}
}

func TestHalfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := twoHosts()
		c, s := connect(t, a, b)
		mustWrite(t, c, "question")
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("more")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write after CloseWrite: %v", err)
		}
		if got, err := io.ReadAll(s); string(got) != "question" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		mustWrite(t, s, "answer")
		s.Close()
		if got, err := io.ReadAll(c); string(got) != "answer" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestCloseWithUnreadDataResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := twoHosts()
		c, s := connect(t, a, b)
		mustWrite(t, s, "last words")
		mustWrite(t, c, "unread")
		s.Close()
		mustRead(t, c, "last words")
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v, want a reset", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write: %v, want a reset", err)
		}
	})
}

func TestWriteToClosedPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := twoHosts()
		c, s := connect(t, a, b)
		s.Close()
		mustWrite(t, c, "it cannot know yet")
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("second write: %v, want a broken pipe", err)
		}
	})
}

func TestLingerZeroResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := twoHosts()
		c, s := connect(t, a, b)
		if err := s.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v, want a reset", err)
		}
	})
}

func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := twoHosts()
		c, s := connect(t, a, b)
		c.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := c.Write(make([]byte, 2*window))
		if n != window || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d, %v, want %d and a time-out", n, err, window)
		}
		c.SetWriteDeadline(time.Time{})
		done := make(chan error)
		go func() { _, err := c.Write(make([]byte, window)); done <- err }()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("write did not wait for room")
		default:
		}
		if _, err := io.CopyN(io.Discard, s, window); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Two large writes must not mix, and the one that waits can time out.
func TestConcurrentWritesStayWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := twoHosts()
		c, s := connect(t, a, b)
		for _, letter := range "ab" {
			go c.Write(bytesOf(byte(letter), 3*window))
		}
		got := make([]byte, 6*window)
		if _, err := io.ReadFull(s, got); err != nil {
			t.Fatal(err)
		}
		changes := 0
		for i := range got[1:] {
			if got[i] != got[i+1] {
				changes++
			}
		}
		if changes != 1 {
			t.Errorf("writes were mixed: %d changes", changes)
		}
	})
}

func bytesOf(b byte, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = b
	}
	return p
}

func TestUnixSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := twoHosts()
		l, err := a.Listen(t.Context(), "unix", "/run/x.sock")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := a.Listen(t.Context(), "unix", "/run/x.sock"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listening twice: %v", err)
		}
		if _, err := b.DialContext(t.Context(), "unix", "/run/x.sock"); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("socket of another host: %v", err)
		}
		c, err := a.As(1234).DialContext(t.Context(), "unix", "/run/x.sock")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if uid, err := s.(interface{ PeerUID() (uint32, error) }).PeerUID(); uid != 1234 || err != nil {
			t.Errorf("peer is %d, %v", uid, err)
		}
		mustWrite(t, c, "ping")
		mustRead(t, s, "ping")
		if s.LocalAddr().String() != "/run/x.sock" || s.LocalAddr().Network() != "unix" {
			t.Errorf("local address %v", s.LocalAddr())
		}
	})
}
