// Package relay copies bytes between two connections until both are done.
package relay

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// ErrIdle says that a relay was ended because nothing moved for too long.
var ErrIdle = errors.New("nothing was sent in either direction for too long")

// Run copies between a caller and a callee. When one side ends what it sends,
// the other is told so and may go on; when one fails, so does the other. Both
// are closed in the end. A relay in which nothing moves for idle (but not for
// much longer than that) is ended; zero means never.
//
// sent and received are told of bytes from and to the caller, now and then.
func Run(caller, callee net.Conn, idle time.Duration, sent, received func(int64)) error {
	r := &relay{idle: idle}
	back := make(chan error, 1)
	go func() { back <- r.direction(callee, caller, sent) }()
	there := r.direction(caller, callee, received)
	err := errors.Join(there, <-back)
	caller.Close()
	callee.Close()
	if errors.Is(err, ErrIdle) {
		return ErrIdle
	}
	return err
}

type relay struct {
	idle  time.Duration
	moved atomic.Int64 // bytes in both directions
}

// direction copies one way. A failure ends both ways, and so that nobody takes
// what has arrived for all there is.
func (r *relay) direction(to, from net.Conn, count func(int64)) error {
	err := r.copy(to, from, count)
	if err == nil {
		if err = closeWrite(to); err == nil {
			return nil
		}
	}
	Abort(to)
	Abort(from)
	return err
}

// copy works in rounds that end at a read deadline. io.Copy moves bytes within
// the kernel where it can, but tells of them only when it returns.
func (r *relay) copy(to, from net.Conn, count func(int64)) error {
	for silent, last := 0, int64(0); ; {
		began := r.arm(to, from)
		n, err := io.Copy(to, from)
		count(n)
		moved := r.moved.Add(n)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		// The other direction may tell of its bytes a round late.
		if silent++; moved != last {
			silent, last = 0, moved
		}
		if silent == 3 || time.Since(began) >= r.idle {
			return ErrIdle
		}
	}
}

// arm sets the deadlines of a round. That for writing is later, so that it is
// met only by a peer that has not read anything for the whole idle time.
func (r *relay) arm(to, from net.Conn) (began time.Time) {
	if r.idle == 0 {
		return began
	}
	began = time.Now()
	from.SetReadDeadline(began.Add(r.idle / 2))
	to.SetWriteDeadline(began.Add(r.idle))
	return began
}

func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Close()
}

// Abort closes a connection so that the peer cannot take it for a proper end.
func Abort(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		l.SetLinger(0)
	}
	c.Close()
}
