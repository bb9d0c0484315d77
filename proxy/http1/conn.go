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
	"github.com/meshd/meshd/proxy/forward"
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
	// Connect connects to peers.
	Connect forward.Connector
	// HTTP2 makes a server of a connection on which the client has begun with
	// HTTP/2 (RFC 9113, 3.3), given what was read of it; nil if that is not
	// spoken here.
	HTTP2 func(early []byte) Server
	// Link says that the other end is an agent: it never half-closes, so that
	// the end of what it sends is the end of its interest.
	Link bool
	// Patience is how long to wait for the next request; 0 is for ever.
	Patience time.Duration
	// Until is when the caller's certificate ends; zero is never.
	Until time.Time
}

// A Server serves a connection.
type Server interface {
	Serve()
	Drain()
}

// A Conn serves the requests of one connection.
type Conn struct {
	Config
	in       input
	caller   caller
	exchange forward.Exchange
	draining atomic.Bool

	mu    sync.Mutex // of the read deadline while the connection is idle
	idle  bool       // it waits for the first byte of a request
	other Server     // serves instead, if the client speaks HTTP/2
}

// New makes a Conn, which Serve runs.
func New(c Config) *Conn {
	conn := &Conn{Config: c, in: input{conn: c.Caller}}
	conn.caller.Conn = conn
	conn.exchange = forward.Exchange{Origin: c.Origin, Connect: c.Connect, Until: c.Until}
	return conn
}

// Serve serves requests until the connection ends, and closes it.
func (c *Conn) Serve() {
	if c.HTTP2 != nil && c.await() && c.speaksHTTP2() {
		c.handOver()
		return
	}
	edge := c.Origin.Edge()
	edge.Opened()
	defer edge.Closed()
	defer c.in.release()
	for c.await() && c.serveOne() {
	}
	if c.caller.lingers {
		c.linger()
	}
	c.Caller.Close()
}

// serveOne answers the next request and reports whether the connection may go
// on.
func (c *Conn) serveOne() (again bool) {
	a := &c.caller
	a.reset()
	defer a.release()
	c.exchange.Begin(a)
	head, ok, problem := c.readHead()
	if problem == nil && !ok {
		return false
	}
	if problem == nil {
		c.exchange.Begin(a)
		problem = a.parse(head)
	}
	if problem != nil {
		// Whatever follows cannot be told apart from the request.
		c.exchange.Refuse(problem)
		a.lingers = true
		return false
	}
	c.exchange.Run(&a.request.Request)
	return a.again()
}

// Drain has the connection end after the request it is serving, or now if there
// is none.
func (c *Conn) Drain() {
	c.draining.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.other != nil {
		c.other.Drain()
	}
	if c.idle {
		c.Caller.SetReadDeadline(past)
	}
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

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
			return nil, false, forward.RequestProblem(err)
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
