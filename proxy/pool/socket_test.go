package pool

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/proxy/mtls/mtlstest"
)

func tlsServer(c net.Conn, config *tls.Config) net.Conn { return tls.Server(c, config) }

// realPeer is an application on this machine, whose connections come out of a
// channel.
func realPeer(t *testing.T) (*Peer, chan *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	accepted := make(chan *net.TCPConn, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c.(*net.TCPConn)
		}
	}()
	p := New(netx.System{}, mtlstest.New())
	t.Cleanup(p.Close)
	target := Target{Key: "app", Address: netip.MustParseAddrPort(l.Addr().String())}
	return p.Use([]Target{target})[target], accepted
}

func TestSurprisesEndIdleConnections(t *testing.T) {
	f := func(what string, surprise func(*net.TCPConn), kept bool) {
		t.Helper()
		p, accepted := realPeer(t)
		c := get(t, p, "")
		c.Release()
		far := <-accepted
		surprise(far)
		// Once the kernel has shown it to a reader of its own, it is there.
		if !kept {
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			c.socketReady(t)
		}
		if again := get(t, p, ""); (again == c) != kept {
			t.Errorf("%s: connection kept: %v", what, again == c)
		}
	}
	f("nothing", func(*net.TCPConn) {}, true)
	f("a late answer", func(c *net.TCPConn) { c.Write([]byte("x")) }, false)
	f("the end", func(c *net.TCPConn) { c.Close() }, false)
	f("half of the end", func(c *net.TCPConn) { c.CloseWrite() }, false)
	f("a reset", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, false)
}

// socketReady waits until there is something to read.
func (c *Conn) socketReady(t *testing.T) {
	t.Helper()
	c.open()
	if err := c.socket.Read(func(fd uintptr) bool { c.peek(fd); return c.poll[0].Revents != 0 }); err != nil {
		t.Fatal(err)
	}
}

func TestUntouched(t *testing.T) {
	f := func(what string, before, after func(*net.TCPConn), want bool) {
		t.Helper()
		p, accepted := realPeer(t)
		c := get(t, p, "")
		far := <-accepted
		// One call goes well.
		c.Write([]byte("first"))
		io.ReadFull(far, make([]byte, 5))
		far.Write([]byte("answer"))
		io.ReadFull(c, make([]byte, 6))
		if before != nil {
			before(far)
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			c.socketReady(t)
		}
		c.Mark()
		_, write := c.Write([]byte("second"))
		if after != nil {
			after(far)
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, read := c.Read(make([]byte, 1))
		if got := c.Untouched(read, write); got != want {
			t.Errorf("%s: untouched is %v after %v and %v", what, got, read, write)
		}
	}
	read := func(c *net.TCPConn) { io.ReadFull(c, make([]byte, 6)) }
	reset := func(c *net.TCPConn) { c.SetLinger(0); c.Close() }
	f("closed before", func(c *net.TCPConn) { c.Close() }, nil, true)
	f("closed in between, unread", nil, func(c *net.TCPConn) { c.Close() }, false)
	f("read, then closed", nil, func(c *net.TCPConn) { read(c); c.Close() }, false)
	f("read, then reset", nil, func(c *net.TCPConn) { read(c); reset(c) }, false)
	f("reset before", reset, nil, false)
	// Who has said that no answer will come reads only to throw away.
	f("half closed, then read", func(c *net.TCPConn) { c.CloseWrite() }, func(c *net.TCPConn) { read(c); c.Close() }, true)
}

func TestReuseAllocatesNothing(t *testing.T) {
	p, _ := realPeer(t)
	get(t, p, "").Release()
	if n := testing.AllocsPerRun(100, func() {
		c, err := p.Get("", time.Second)
		if err != nil || !c.Reused {
			t.Fatal("no idle connection", err)
		}
		c.Release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkReuse(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	p := New(netx.System{}, mtlstest.New())
	defer p.Close()
	target := Target{Address: netip.MustParseAddrPort(l.Addr().String())}
	peer := p.Use([]Target{target})[target]
	for b.Loop() {
		c, err := peer.Get("", time.Second)
		if err != nil {
			b.Fatal(err)
		}
		c.Release()
	}
}
