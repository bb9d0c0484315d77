package l4

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/internal/memnet"
)

// halfCloser is what both ends of the tests are.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// memory gives two pairs of connected ends on a network in memory.
func memory(t *testing.T) (client, a, b, server halfCloser) {
	h := memnet.New().Host("h", netip.MustParseAddr("10.0.0.1"))
	pair := func(address string) (out, in halfCloser) {
		l, err := h.Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := h.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return c.(halfCloser), s.(halfCloser)
	}
	client, a = pair("127.0.0.1:1")
	b, server = pair("127.0.0.1:2")
	return client, a, b, server
}

// kernel gives the same on the machine's loopback.
func kernel(t testing.TB) (client, a, b, server halfCloser) {
	pair := func() (out, in halfCloser) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return c.(halfCloser), s.(halfCloser)
	}
	client, a = pair()
	b, server = pair()
	return client, a, b, server
}

func start(a, b net.Conn, idle time.Duration) (wait func() Result) {
	result := make(chan Result, 1)
	go func() { result <- Relay(a, b, idle) }()
	return func() Result { return <-result }
}

// exchange sends megabytes both ways at once, ends one way first, and checks
// every byte.
func exchange(t *testing.T, client, a, b, server halfCloser, idle time.Duration) {
	wait := start(a, b, idle)
	up, down := make([]byte, 3<<20+1), make([]byte, 5<<20+7)
	rand.Read(up)
	rand.Read(down)
	var all sync.WaitGroup
	send := func(c halfCloser, data []byte) {
		all.Go(func() {
			if _, err := c.Write(data); err != nil {
				t.Error(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
	}
	receive := func(c halfCloser, want []byte) {
		all.Go(func() {
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("received %d bytes of %d, error %v", len(got), len(want), err)
			}
		})
	}
	send(client, up)
	receive(server, up)
	all.Wait() // the client has ended, the server has not begun
	send(server, down)
	receive(client, down)
	all.Wait()
	got := wait()
	if got.Err != nil || got.AToB != int64(len(up)) || got.BToA != int64(len(down)) {
		t.Errorf("relay gave %+v", got)
	}
	client.Close()
	server.Close()
}

func TestRelay(t *testing.T) {
	t.Run("spliced", func(t *testing.T) {
		client, a, b, server := kernel(t)
		exchange(t, client, a, b, server, 0)
	})
	t.Run("spliced with a limit", func(t *testing.T) {
		client, a, b, server := kernel(t)
		exchange(t, client, a, b, server, time.Minute)
	})
	t.Run("buffered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, a, b, server := memory(t)
			exchange(t, client, a, b, server, 0)
		})
	})
	t.Run("buffered with a limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, a, b, server := memory(t)
			exchange(t, client, a, b, server, time.Minute)
		})
	})
}

func TestSilenceEndsARelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a, b, server := memory(t)
		defer client.Close()
		defer server.Close()
		wait := start(a, b, time.Minute)
		// Bytes in one direction keep both alive.
		for range 10 {
			<-time.After(50 * time.Second)
			if _, err := server.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		if got := wait(); !errors.Is(got.Err, ErrIdle) || got.BToA != 10 {
			t.Errorf("relay gave %+v", got)
		}
		if d := time.Since(begin); d < time.Minute || d > 80*time.Second {
			t.Errorf("it ended after %v of silence", d)
		}
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("the client's connection is still open")
		}
	})
}

func TestFailureOfOneSideEndsTheOther(t *testing.T) {
	client, a, b, server := kernel(t)
	defer server.Close()
	wait := start(a, b, 0)
	client.(*net.TCPConn).SetLinger(0)
	client.Close() // a reset
	if _, err := server.Read(make([]byte, 1)); err == nil {
		t.Error("the server was not told")
	}
	if got := wait(); got.Err == nil {
		t.Error("a reset passed for a good end")
	}
}

func TestClosingFromOutsideEndsARelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a, b, server := memory(t)
		defer client.Close()
		defer server.Close()
		wait := start(a, b, 0)
		synctest.Wait()
		a.Close()
		wait()
	})
}

func BenchmarkRelay(bm *testing.B) {
	client, a, b, server := kernel(bm)
	wait := start(a, b, 5*time.Minute)
	chunk := make([]byte, 256<<10)
	bm.SetBytes(int64(len(chunk)))
	var sink sync.WaitGroup
	sink.Go(func() { io.Copy(io.Discard, server) })
	for bm.Loop() {
		if _, err := client.Write(chunk); err != nil {
			bm.Fatal(err)
		}
	}
	client.CloseWrite()
	sink.Wait()
	server.Close()
	wait()
}
