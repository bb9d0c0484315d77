package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestPartitionStallsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts()
		c, s := connect(t, a, b)
		mustWrite(t, c, "before ")
		n.Partition([]*Host{a}, []*Host{b})
		mustRead(t, s, "before ")
		mustWrite(t, c, "after")
		c.Close()
		got := make(chan string)
		go func() { p, _ := io.ReadAll(s); got <- string(p) }()
		time.Sleep(time.Hour)
		select {
		case p := <-got:
			t.Fatalf("%q arrived over a cut link", p)
		default:
		}
		n.Heal()
		if p := <-got; p != "after" {
			t.Errorf("after healing: %q", p)
		}
	})
}

func TestPartitionOneWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts()
		c, s := connect(t, a, b)
		n.PartitionOneWay([]*Host{a}, []*Host{b})
		mustWrite(t, c, "ping")
		mustWrite(t, s, "pong")
		mustRead(t, c, "pong")
		s.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) && !isTimeout(err) {
			t.Errorf("read over a cut link: %v", err)
		}
		s.SetReadDeadline(time.Time{})
		n.Heal(b)
		mustRead(t, s, "ping")
	})
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestDialOverCutLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts()
		l, err := b.Listen(t.Context(), "tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		n.Isolate(b)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.DialContext(ctx, "tcp", "b:80"); !errors.Is(err, context.DeadlineExceeded) || !isTimeout(err) {
			t.Errorf("dial: %v", err)
		}
		time.AfterFunc(time.Minute, func() { n.Heal() })
		start := time.Now()
		c, err := a.DialContext(t.Context(), "tcp", "b:80")
		if err != nil || time.Since(start) != time.Minute {
			t.Fatalf("dial: %v after %v", err, time.Since(start))
		}
		c.Close()
	})
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts()
		n.SetLatency(a, b, 50*time.Millisecond)
		start := time.Now()
		c, s := connect(t, a, b)
		if got := time.Since(start); got != 100*time.Millisecond {
			t.Errorf("connecting took %v", got)
		}
		start = time.Now()
		mustWrite(t, c, "one ")
		mustWrite(t, c, "two")
		c.Close()
		if got, err := io.ReadAll(s); string(got) != "one two" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		if got := time.Since(start); got != 50*time.Millisecond {
			t.Errorf("the way took %v", got)
		}
	})
}

func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts()
		c, s := connect(t, a, b)
		l, err := b.Listen(t.Context(), "tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		p := listenPacket(t, b, ":53")
		n.Crash(b)
		if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write on the crashed host: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept on the crashed host: %v", err)
		}
		if _, _, err := p.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("packet on the crashed host: %v", err)
		}
		if _, err := b.Listen(t.Context(), "tcp", ":80"); !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("listen on the crashed host: %v", err)
		}
		if _, err := b.DialContext(t.Context(), "tcp", "a:80"); !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("dial on the crashed host: %v", err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read at the peer: %v", err)
		}
		if _, err := a.DialContext(t.Context(), "tcp", "b:80"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial to the crashed host: %v", err)
		}
		again := n.Host("b", netip.MustParseAddr("10.0.0.2"))
		connect(t, a, again)
	})
}

// A host that loses its power says nothing; what is left of its connections
// answers with resets when it is back.
func TestCrashUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts()
		c, _ := connect(t, a, b)
		n.Isolate(b)
		n.Crash(b)
		c.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := c.Read(make([]byte, 1)); !isTimeout(err) {
			t.Errorf("read: %v, want nothing at all", err)
		}
		c.SetReadDeadline(time.Time{})
		n.Heal()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v, want a reset", err)
		}
	})
}

func TestClosedConnectionsAreForgotten(t *testing.T) {
	n, a, b := twoHosts()
	c, s := connect(t, a, b)
	c.Close()
	s.Close()
	if len(n.pairs) != 0 {
		t.Errorf("%d connections are kept", len(n.pairs))
	}
}
