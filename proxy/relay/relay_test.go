package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/internal/memnet"
)

// A line is a relay between two ends that a test holds.
type line struct {
	caller, callee net.Conn
	sent, received atomic.Int64
	done           chan error
}

// pair gives both ends of a connection.
func pair(t *testing.T, h *memnet.Host) (near, far net.Conn) {
	t.Helper()
	l, err := h.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = h.DialContext(t.Context(), "tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func run(t *testing.T, idle time.Duration) *line {
	t.Helper()
	h := memnet.New().Host("vm", netip.MustParseAddr("10.0.0.1"))
	l := &line{done: make(chan error, 1)}
	var a, b net.Conn
	l.caller, a = pair(t, h)
	l.callee, b = pair(t, h)
	go func() {
		l.done <- Run(a, b, idle, func(n int64) { l.sent.Add(n) }, func(n int64) { l.received.Add(n) })
	}()
	return l
}

func TestBytesGoBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := run(t, time.Minute)
		there, back := bytes.Repeat([]byte("a"), 1<<20), bytes.Repeat([]byte("b"), 2<<20)
		go func() { l.caller.Write(there); l.caller.(closer).CloseWrite() }()
		got, err := io.ReadAll(l.callee)
		if err != nil || !bytes.Equal(got, there) {
			t.Errorf("%d bytes there, %v", len(got), err)
		}
		// The callee answers after the caller has ended.
		go func() { l.callee.Write(back); l.callee.Close() }()
		got, err = io.ReadAll(l.caller)
		if err != nil || !bytes.Equal(got, back) {
			t.Errorf("%d bytes back, %v", len(got), err)
		}
		if err := <-l.done; err != nil {
			t.Error(err)
		}
		if l.sent.Load() != 1<<20 || l.received.Load() != 2<<20 {
			t.Errorf("counted %d and %d", l.sent.Load(), l.received.Load())
		}
		l.caller.Close()
	})
}

type closer interface{ CloseWrite() error }

func TestResetGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := run(t, 0)
		l.caller.Write([]byte("half of it"))
		io.ReadFull(l.callee, make([]byte, 10))
		Abort(l.caller)
		if _, err := l.callee.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the callee sees %v", err)
		}
		if err := <-l.done; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the relay says %v", err)
		}
		l.callee.Close()
	})
}

func TestIdleRelayEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := run(t, time.Minute)
		began := time.Now()
		if err := <-l.done; err != ErrIdle {
			t.Error(err)
		}
		if d := time.Since(began); d < time.Minute || d > 2*time.Minute {
			t.Errorf("ended after %v", d)
		}
		l.caller.Close()
		l.callee.Close()
	})
}

func TestOneWayTrafficKeepsARelayOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := run(t, time.Minute)
		go io.Copy(io.Discard, l.caller)
		for range 30 {
			time.Sleep(45 * time.Second)
			if _, err := l.callee.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		select {
		case err := <-l.done:
			t.Errorf("ended: %v", err)
		default:
		}
		l.callee.Close()
		l.caller.Close()
		<-l.done
	})
}

func TestPeerThatReadsNothingEndsARelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := run(t, time.Minute)
		began := time.Now()
		go func() {
			for {
				if _, err := l.caller.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}()
		if err := <-l.done; err != ErrIdle {
			t.Error(err)
		}
		if d := time.Since(began); d > 2*time.Minute {
			t.Errorf("ended after %v", d)
		}
		l.caller.Close()
		l.callee.Close()
	})
}

func BenchmarkRelay(b *testing.B) {
	dial := func() (near, far net.Conn) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
			b.Fatal(err)
		}
		if far, err = l.Accept(); err != nil {
			b.Fatal(err)
		}
		return near, far
	}
	caller, x := dial()
	callee, y := dial()
	done := make(chan error, 1)
	go func() { done <- Run(x, y, time.Minute, func(int64) {}, func(int64) {}) }()
	go func() {
		defer caller.Close()
		chunk := make([]byte, 64<<10)
		for b.Loop() {
			if _, err := caller.Write(chunk); err != nil {
				return
			}
		}
	}()
	b.SetBytes(64 << 10)
	io.Copy(io.Discard, callee)
	callee.Close()
	<-done
}
