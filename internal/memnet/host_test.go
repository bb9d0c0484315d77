package memnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestListenAddresses(t *testing.T) {
	f := func(first, second string, want error) {
		t.Helper()
		_, a, _ := twoHosts()
		if first != "" {
			l, err := a.Listen(t.Context(), "tcp", first)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
		}
		l, err := a.Listen(t.Context(), "tcp", second)
		if !errors.Is(err, want) {
			t.Errorf("listen on %q then %q: %v, want %v", first, second, err, want)
		}
		if err == nil {
			l.Close()
		}
	}
	f("", "10.0.0.1:80", nil)
	f("", "a:80", nil)
	f("", "localhost:80", nil)
	f("", "127.128.3.4:80", nil)
	f("", "[::1]:80", nil)
	f("", "10.0.0.2:80", syscall.EADDRNOTAVAIL)
	f("127.0.0.1:80", "127.0.0.2:80", nil)
	f("127.0.0.1:80", "127.0.0.1:80", syscall.EADDRINUSE)
	f("127.0.0.1:80", ":80", syscall.EADDRINUSE)
	f(":80", "127.0.0.1:80", syscall.EADDRINUSE)
	f("0.0.0.0:80", "[::]:80", syscall.EADDRINUSE)
	f("127.0.0.1:80", ":0", nil)
}

func TestMalformedAddresses(t *testing.T) {
	_, a, _ := twoHosts()
	f := func(network, address string) {
		t.Helper()
		if c, err := a.DialContext(t.Context(), network, address); err == nil {
			t.Errorf("dialled %s %q: %v", network, address, c.RemoteAddr())
		}
		if l, err := a.Listen(t.Context(), network, address); err == nil {
			t.Errorf("listens on %s %q: %v", network, address, l.Addr())
		}
		if p, err := a.ListenPacket(t.Context(), network, address); err == nil {
			t.Errorf("takes packets on %s %q: %v", network, address, p.LocalAddr())
		}
	}
	f("tcp", "10.0.0.1")
	f("tcp", "10.0.0.1:http")
	f("tcp", "10.0.0.1:65536")
	f("tcp", "nowhere:80")
	f("udp", "nowhere:80")
	f("ip", "10.0.0.1:80")
}

func TestReleasedAddressIsFree(t *testing.T) {
	_, a, _ := twoHosts()
	for range 2 {
		l, err := a.Listen(t.Context(), "tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
	}
}

func TestConnectionAddresses(t *testing.T) {
	f := func(listen, dial string, wantClient, wantServer string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			_, a, _ := twoHosts()
			l, err := a.Listen(t.Context(), "tcp", listen)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c, err := a.DialContext(t.Context(), "tcp", dial)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if got := s.LocalAddr().(*net.TCPAddr).String(); got != wantServer || c.RemoteAddr().String() != got {
				t.Errorf("server is %v and %v, want %v", got, c.RemoteAddr(), wantServer)
			}
			if got := c.LocalAddr().(*net.TCPAddr); got.IP.String() != wantClient || s.RemoteAddr().String() != got.String() {
				t.Errorf("client is %v and %v, want %v", got, s.RemoteAddr(), wantClient)
			}
		})
	}
	f(":80", "10.0.0.1:80", "10.0.0.1", "10.0.0.1:80")
	f(":80", "a:80", "10.0.0.1", "10.0.0.1:80")
	f(":80", ":80", "127.0.0.1", "127.0.0.1:80")
	f("0.0.0.0:80", "127.128.0.7:80", "127.0.0.1", "127.128.0.7:80")
	f("127.128.0.7:80", "127.128.0.7:80", "127.0.0.1", "127.128.0.7:80")
}

func TestLoopbackIsLocal(t *testing.T) {
	_, a, b := twoHosts()
	l, err := a.Listen(t.Context(), "tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := func(h *Host, address string) {
		t.Helper()
		if _, err := h.DialContext(t.Context(), "tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s to %s: %v, want refused", h.Name(), address, err)
		}
	}
	f(b, "127.0.0.1:80")
	f(b, "10.0.0.1:80")
	f(a, "10.0.0.1:80")
}

func TestDialUnknownAddressWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, _ := twoHosts()
		start := time.Now()
		if _, err := a.DialContext(t.Context(), "tcp", "10.9.9.9:80"); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("got %v, want a time-out of the network", err)
		}
		if got := time.Since(start); got != synTimeout {
			t.Errorf("gave up after %v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.DialContext(ctx, "tcp", "10.9.9.9:80"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's end", err)
		}
		late := n.Host("late", netip.MustParseAddr("10.9.9.9"))
		if _, err := a.DialContext(ctx, "tcp", "late:80"); err == nil {
			t.Error("an ended context dials")
		}
		if _, err := a.DialContext(t.Context(), "tcp", "late:80"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v, want refused", late.Name(), err)
		}
	})
}

func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := twoHosts()
		l, err := b.Listen(t.Context(), "tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		var last net.Conn
		for range backlog {
			if last, err = a.DialContext(t.Context(), "tcp", "b:80"); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.DialContext(ctx, "tcp", "b:80"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial with a full backlog: %v", err)
		}
		l.Close()
		if _, err := last.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("never accepted: %v, want a reset", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after close: %v", err)
		}
	})
}

func TestHostNamesAndAddressesAreUnique(t *testing.T) {
	f := func(name, ip string) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("a second host %s %s was let in", name, ip)
			}
		}()
		n, _, _ := twoHosts()
		n.Host(name, netip.MustParseAddr(ip))
	}
	f("a", "10.0.0.7")
	f("c", "10.0.0.1")
}
