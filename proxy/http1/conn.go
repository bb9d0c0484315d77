// Package http1 serves HTTP/1.1: one goroutine takes the requests of one
// connection, leads each to its peer and the answer back.
package http1

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshd/meshd/proxy/dispatch"
	"github.com/meshd/meshd/proxy/http1/codec"
	"github.com/meshd/meshd/proxy/observe"
)

const (
	// headTimeout is how long a head may take from its first byte to its last.
	headTimeout = 10 * time.Second
	// After an answer to a request that was not read to its end, the client is
	// given a moment to see the answer before it finds the connection closed.
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// Config of a connection.
type Config struct {
	Caller net.Conn
	Origin dispatch.Origin
	// Link says that the other end is an agent: it never half-closes, so that
	// the end of what it sends is the end of its interest.
	Link bool
	// Patience is how long to wait for the next request; 0 is for ever.
	Patience time.Duration
	// Until is when the caller's certificate ends; zero is never.
	Until time.Time
}

// A Conn serves the requests of one connection.
type Conn struct {
	Config
	in       input
	exchange exchange
	draining atomic.Bool

	mu   sync.Mutex // of the read deadline while the connection is idle
	idle bool       // it waits for the first byte of a request
}

// New makes a Conn, which Serve runs.
func New(c Config) *Conn {
	conn := &Conn{Config: c, in: input{conn: c.Caller}}
	conn.exchange.Conn = conn
	return conn
}

// Serve serves requests until the connection ends, and closes it.
func (c *Conn) Serve() {
	edge := c.Origin.Edge()
	edge.Opened()
	defer edge.Closed()
	defer c.in.release()
	for c.await() && c.exchange.serve() {
	}
	if c.exchange.lingers {
		c.linger()
	}
	c.Caller.Close()
}

// Drain has the connection end after the request it is serving, or now if there
// is none.
func (c *Conn) Drain() {
	c.draining.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle {
		c.Caller.SetReadDeadline(past)
	}
}

// Deadlines that are over, and that never come.
var (
	past       = time.Unix(1, 0)
	noDeadline time.Time
)

// lasts reports whether more requests may follow.
func (c *Conn) lasts() bool {
	return !c.draining.Load() && (c.Until.IsZero() || time.Now().Before(c.Until))
}

// await waits for the first byte of a request.
func (c *Conn) await() bool {
	if !c.in.empty() {
		return true
	}
	c.rest()
	defer c.wake()
	// Drain looks whether the connection is idle after it has set draining, so
	// that one of the two sees the other.
	if !c.lasts() {
		return false
	}
	c.in.shrink()
	return c.in.fill() == nil
}

// rest has Drain end the connection, until wake.
func (c *Conn) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = true
	c.Caller.SetReadDeadline(earlier(after(c.Patience), c.Until))
}

func (c *Conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = false
}

// readHead waits for the rest of a head. Without a problem, ok is false if the
// caller has left.
func (c *Conn) readHead() (head []byte, ok bool, problem *observe.Problem) {
	var s codec.Scanner
	c.Caller.SetReadDeadline(time.Now().Add(headTimeout))
	for {
		head, n, err := s.Request(c.in.bytes())
		if err != nil {
			return nil, false, requestProblem(err)
		}
		if n > 0 {
			return c.in.keep(n, len(head)), true, nil
		}
		if err := c.in.fill(); errors.Is(err, errFull) {
			c.in.grow()
		} else if isTimeout(err) {
			return nil, false, &observe.Problem{Code: observe.HeadTimeout}
		} else if err != nil {
			return nil, false, nil
		}
	}
}

// linger ends the connection after an answer that the client may not have read
// while it was sending.
func (c *Conn) linger() {
	if h, ok := c.Caller.(interface{ CloseWrite() error }); !ok || h.CloseWrite() != nil {
		return
	}
	c.Caller.SetReadDeadline(time.Now().Add(lingerTime))
	for left := lingerBytes; left > 0; {
		left -= len(c.in.bytes())
		c.in.take(len(c.in.bytes()))
		if c.in.fill() != nil {
			return
		}
	}
}

// requestProblem gives the code for why a head or body is refused.
func requestProblem(err error) *observe.Problem {
	var refused *codec.Error
	if !errors.As(err, &refused) {
		return &observe.Problem{Code: observe.BadRequest, Err: err}
	}
	code := observe.BadRequest
	switch refused.Status {
	case 414:
		code = observe.TargetTooLong
	case 417:
		code = observe.Expectation
	case 431:
		code = observe.HeadTooLarge
	case 501:
		code = observe.NotImplemented
	case 505:
		code = observe.Version
	}
	return &observe.Problem{Code: code, Err: err}
}

// isTimeout reports whether a deadline of ours was met; the network has others.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// after is a deadline some time from now; 0 is none.
func after(d time.Duration) (t time.Time) {
	if d > 0 {
		t = time.Now().Add(d)
	}
	return t
}

// earlier is the earlier of two deadlines.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
