package pool

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshd/meshd/proxy/relay"
)

// A Conn is a connection in use. It is given back by Release or ended by Close.
type Conn struct {
	net.Conn
	// Reused says that it has carried calls before.
	Reused bool

	peer        *Peer
	raw         net.Conn // under TLS, if there is
	multiplexed bool     // it speaks HTTP/2
	identity    string
	certificate *tls.Certificate    // that was shown, if any
	chain       []*x509.Certificate // that the peer has shown
	opened      time.Time
	expires     time.Time
	idleSince   time.Time

	socket   syscall.RawConn // nil if there is none
	look     func(fd uintptr)
	poll     [1]unix.PollFd
	ackedOK  bool
	ackedWas uint64 // bytes that the peer's kernel had taken at Mark, if ackedOK
}

// setAge sets how long the connection may be used: not all end at once, and
// none comes near the end of its certificate.
func (c *Conn) setAge() {
	now := time.Now()
	c.opened = now
	c.expires = now.Add(maxAge - rand.N(maxAge/10))
	if c.certificate != nil && c.certificate.Leaf != nil {
		if half := now.Add(c.certificate.Leaf.NotAfter.Sub(now) / 2); half.Before(c.expires) {
			c.expires = half
		}
	}
}

// Release gives the connection back for other calls. The last call must be
// complete in both directions.
func (c *Conn) Release() {
	c.idleSince = time.Now()
	if !c.fresh() || !c.peer.put(c) {
		c.Close()
	}
}

// Close ends the connection.
func (c *Conn) Close() error {
	c.peer.pool.unregister(c)
	return c.Conn.Close()
}

// Abort ends the connection so that the peer cannot take it for a proper end.
func (c *Conn) Abort() {
	c.peer.pool.unregister(c)
	relay.Abort(c.raw)
}

// fresh reports whether the connection may carry more calls: it is not too old,
// bears the certificate that new connections would, and its peer's certificate
// does not hang on a root that is about to go.
func (c *Conn) fresh() bool {
	if !time.Now().Before(c.expires) {
		return false
	}
	if c.certificate == nil {
		return true
	}
	if time.Since(c.opened) > passingAge && !c.peer.pool.stays(c) {
		return false
	}
	now := c.peer.pool.source.Certificate(c.identity)
	return now == c.certificate || now != nil && bytes.Equal(now.Certificate[0], c.certificate.Certificate[0])
}

// silent reports whether nothing has arrived on an idle connection. Whatever
// did is no answer to a call that was not made yet.
func (c *Conn) silent() bool {
	if !c.open() {
		return true
	}
	err := c.socket.Control(c.look)
	return err == nil && c.poll[0].Revents == 0
}

// open prepares to ask the kernel about the socket. There is none under
// networks in memory.
func (c *Conn) open() bool {
	if c.look != nil {
		return c.socket != nil
	}
	c.look = c.peek
	if s, ok := c.raw.(syscall.Conn); ok {
		c.socket, _ = s.SyscallConn()
	}
	return c.socket != nil
}

// peek asks whether there is something to read, be it the end.
func (c *Conn) peek(fd uintptr) {
	c.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}
	if _, err := unix.Poll(c.poll[:], 0); err != nil {
		c.poll[0].Revents = unix.POLLERR
	}
}

// Mark notes how much the peer has taken, before a call is sent that must not
// be made twice.
func (c *Conn) Mark() {
	c.ackedWas, c.ackedOK = c.taken()
}

// Untouched reports whether it is certain that the peer has not seen anything
// that was sent since Mark, given the errors, if any, that reading and writing
// ended with.
//
// It is when the peer ended the connection in good order and had not
// acknowledged a byte by then: the end of a connection acknowledges all that
// came before it. Nothing can be concluded from a reset, which does not.
func (c *Conn) Untouched(read, write error) bool {
	if !c.ackedOK || !orderly(read) || !orderly(write) {
		return false
	}
	now, ok := c.taken()
	return ok && now == c.ackedWas
}

// orderly is false for a reset; a reset that follows the end is EPIPE.
func orderly(err error) bool {
	return err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE)
}

func (c *Conn) taken() (bytes uint64, ok bool) {
	if !c.open() {
		return 0, false
	}
	var info *unix.TCPInfo
	err := c.socket.Control(func(fd uintptr) {
		info, _ = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if err != nil || info == nil {
		return 0, false
	}
	return info.Bytes_acked, true
}
