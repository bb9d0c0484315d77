package memnet

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// A conn is one end of a connection. All that can change is of pair.mu.
type conn struct {
	pair          *pair
	peer          *conn
	host          *Host
	local, remote net.Addr

	in            inbox
	writing       bool // a Write is under way, others wait
	wroteEOF      bool
	closed        bool
	resetOnClose  bool
	readDeadline  deadline
	writeDeadline deadline
}

var errBrokenPipe = os.NewSyscallError("write", syscall.EPIPE)

// Read gives what has arrived, even if a reset came after it.
func (c *conn) Read(p []byte) (int, error) {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.fail("read", net.ErrClosed)
		case c.readDeadline.expired:
			return 0, c.fail("read", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		case c.in.arrived.Len() > 0:
			c.pair.cond.Broadcast()
			return c.in.arrived.Read(p)
		case c.in.reset:
			return 0, c.fail("read", os.NewSyscallError("read", syscall.ECONNRESET))
		case c.in.eof:
			return 0, io.EOF
		}
		c.pair.cond.Wait()
	}
}

// Write returns when all of p has found room on its way.
func (c *conn) Write(p []byte) (n int, err error) {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	if err := c.awaitWrite(func() bool { return !c.writing }); err != nil {
		return 0, err
	}
	c.writing = true
	defer func() { c.writing = false; c.pair.cond.Broadcast() }()
	for n < len(p) {
		if err := c.awaitWrite(func() bool { return c.peer.in.room() > 0 }); err != nil {
			return n, err
		}
		k := min(len(p)-n, c.peer.in.room())
		c.peer.send(data, p[n:n+k])
		n += k
	}
	return n, nil
}

// awaitWrite waits until ready, or until nothing can be written any more.
func (c *conn) awaitWrite(ready func() bool) error {
	for {
		switch {
		case c.closed:
			return c.fail("write", net.ErrClosed)
		case c.writeDeadline.expired:
			return c.fail("write", os.ErrDeadlineExceeded)
		case c.wroteEOF, c.in.reset && c.in.eof:
			return c.fail("write", errBrokenPipe)
		case c.in.reset:
			return c.fail("write", os.NewSyscallError("write", syscall.ECONNRESET))
		case ready():
			return nil
		}
		c.pair.cond.Wait()
	}
}

// Close sends a reset instead of an end of file if there is unread data, as
// Linux does.
func (c *conn) Close() error {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.shut(c.resetOnClose || c.in.arrived.Len() > 0)
	return nil
}

// abort closes with a reset.
func (c *conn) abort() {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	if !c.closed {
		c.shut(true)
	}
}

func (c *conn) shut(reset bool) {
	c.closed = true
	c.in.arrived.Reset()
	c.readDeadline.stop()
	c.writeDeadline.stop()
	switch {
	case reset:
		c.peer.send(rst, nil)
	case !c.wroteEOF:
		c.peer.send(fin, nil)
	}
	if c.peer.closed {
		c.pair.forget()
	}
	c.pair.cond.Broadcast()
}

// CloseWrite ends what this end sends; it can still read.
func (c *conn) CloseWrite() error {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	switch {
	case c.closed:
		return c.fail("close", net.ErrClosed)
	case c.wroteEOF:
		return nil
	}
	c.wroteEOF = true
	c.peer.send(fin, nil)
	c.pair.cond.Broadcast()
	return nil
}

// SetLinger with 0 makes Close send a reset.
func (c *conn) SetLinger(seconds int) error {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	c.resetOnClose = seconds == 0
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error  { return c.setDeadline(&c.readDeadline, t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.writeDeadline, t) }

func (c *conn) setDeadline(d *deadline, t time.Time) error {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	if c.closed {
		return c.fail("set", net.ErrClosed)
	}
	d.set(&c.pair.cond, t)
	return nil
}

func (c *conn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// A unixConn knows the user of the process at its other end.
type unixConn struct {
	*conn
	peer uint32
}

// PeerUID stands in for SO_PEERCRED.
func (c unixConn) PeerUID() (uint32, error) { return c.peer, nil }
