// Package http2 serves HTTP/2 and makes calls by it: the halves of an exchange
// that streams are.
package http2

import (
	"net"
	"sync"
	"time"

	"github.com/meshd/meshd/proxy/dispatch"
	"github.com/meshd/meshd/proxy/forward"
	"github.com/meshd/meshd/proxy/http2/mux"
	"github.com/meshd/meshd/proxy/http2/session"
	"github.com/meshd/meshd/proxy/pool"
)

// Config of a connection that is served.
type Config struct {
	Caller net.Conn
	// Early is what was already read from it.
	Early []byte
	// Origin gives where calls come from, for one stream at a time.
	Origin func() dispatch.Origin
	// Connect connects to peers.
	Connect forward.Connector
	// Link says that the other end is an agent.
	Link bool
	// Patience is how long to wait for the next request; 0 is for ever.
	Patience time.Duration
	// Until is when the caller's certificate ends; zero is never.
	Until time.Time
}

// A Conn serves the requests of one connection, each in a goroutine of its own.
type Conn struct {
	Config
	session *session.Session

	mu   sync.Mutex
	free []*caller
}

// New makes a Conn, which Serve runs.
func New(c Config) *Conn {
	conn := &Conn{Config: c}
	config := mux.DefaultConfig
	if c.Link {
		config = pool.LinkStreams()
	}
	config.Extended = !c.Link
	conn.session = session.New(session.Config{
		Config: config, Conn: early(c.Caller, c.Early), Serve: conn.serve, Idle: c.Patience, Until: c.Until,
	})
	return conn
}

// Serve serves requests until the connection ends, and closes it.
func (c *Conn) Serve() {
	edge := c.Origin().Edge()
	edge.Opened()
	defer edge.Closed()
	c.session.Run()
}

// Drain has the connection end once the requests are answered that it carries.
func (c *Conn) Drain() { c.session.Drain() }

// serve answers one request.
func (c *Conn) serve(st *session.Stream) {
	a := c.take()
	a.begin(st)
	a.exchange.Begin(a)
	if st.Problem != nil {
		a.exchange.Refuse(forward.RequestProblem(st.Problem))
	} else {
		a.exchange.Run(&st.Request)
	}
	c.put(a)
}

// keptCallers bounds what is held for later.
const keptCallers = 128

func (c *Conn) take() *caller {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.free); n > 0 {
		a := c.free[n-1]
		c.free = c.free[:n-1]
		return a
	}
	return &caller{link: c.Link, exchange: forward.Exchange{Origin: c.Origin(), Connect: c.Connect, Until: c.Until}}
}

func (c *Conn) put(a *caller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.free) < keptCallers {
		c.free = append(c.free, a)
	}
}

// early gives a connection what was already read from it.
func early(c net.Conn, b []byte) net.Conn {
	if len(b) == 0 {
		return c
	}
	return &begun{Conn: c, early: b}
}

// A begun connection is one of which something was read.
type begun struct {
	net.Conn
	early []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.early) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.early)
	b.early = b.early[n:]
	return n, nil
}

// CloseWrite ends what is sent, where that can be said.
func (b *begun) CloseWrite() error {
	if h, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return net.ErrClosed
}
