// Package l4 serves TCP: it connects a caller to a peer and carries whatever
// they have to say to each other.
package l4

import (
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/meshd/meshd/proxy/dispatch"
	"github.com/meshd/meshd/proxy/mtls"
	"github.com/meshd/meshd/proxy/observe"
	"github.com/meshd/meshd/proxy/pool"
	"github.com/meshd/meshd/proxy/relay"
)

// greetingTimeout is how long an agent may take to say whether it takes a
// connection, if nothing else limits it.
const greetingTimeout = 10 * time.Second

// Config of a connection.
type Config struct {
	Caller net.Conn
	Origin dispatch.Origin
	// Link says that the other end is an agent, which is told how the
	// connection to the application went.
	Link bool
}

// A Conn is one connection of a caller.
type Conn struct {
	Config
	call dispatch.Call
}

// New makes a Conn, which Serve runs.
func New(c Config) *Conn { return &Conn{Config: c} }

// Serve connects the caller and carries bytes until both sides are done.
func (c *Conn) Serve() {
	began := time.Now()
	peer, problem := c.connect()
	edge := c.call.Edge
	if edge == nil {
		edge = c.Origin.Edge()
	}
	edge.Opened()
	defer edge.Closed()
	defer c.call.End()
	record := observe.Record{Endpoint: c.call.Endpoint(), Tries: c.call.Tries, Took: time.Since(began)}
	if problem != nil {
		c.refuse(problem)
		record.Code, record.Err = problem.Code, problem
	} else {
		c.relay(peer)
	}
	edge.Connection(&record)
}

// Drain does nothing: only its two ends know when a connection is done.
func (c *Conn) Drain() {}

// connect finds a peer that takes the connection.
func (c *Conn) connect() (*pool.Conn, *observe.Problem) {
	problem := c.Origin.Connection(&c.call)
	for {
		var peer *pool.Conn
		if problem == nil {
			if peer, problem = c.try(); problem == nil {
				return peer, nil
			}
		}
		if !problem.Code.Untouched || problem.Code == observe.NoEndpoint || problem.Code == observe.NoCertificate {
			return nil, problem
		}
		again, next := c.call.Again(causeOf(problem), 0)
		if !again {
			return nil, problem
		}
		problem = next
	}
}

func causeOf(p *observe.Problem) dispatch.Cause {
	if p.Code == observe.NotHere {
		return dispatch.Refused
	}
	return dispatch.Connect
}

// try connects to one peer and, if that is an agent, waits until it has
// connected the application.
func (c *Conn) try() (*pool.Conn, *observe.Problem) {
	peer, problem := c.call.Connect()
	if problem == nil && !c.call.Peer.Application() {
		problem = c.greeting(peer)
	}
	if problem == nil {
		c.call.Connected()
		return peer, nil
	}
	if problem.Code != observe.NoCertificate && problem.Code != observe.Denied {
		c.call.Failed()
	}
	return nil, problem
}

func (c *Conn) greeting(peer *pool.Conn) *observe.Problem {
	limit := c.call.Timeouts.Connect
	if limit == 0 {
		limit = greetingTimeout
	}
	peer.SetReadDeadline(time.Now().Add(limit))
	code, err := readGreeting(peer)
	switch {
	case err != nil:
		code = observe.ConnectFailed
	case code == nil:
		return nil
	default:
		err = errors.New("the other agent says: " + code.Sentence)
	}
	peer.Close()
	return &observe.Problem{Code: code, Err: err}
}

// refuse ends a connection that came to nothing. An agent is told why; an
// application cannot be.
func (c *Conn) refuse(p *observe.Problem) {
	if !c.Link {
		relay.Abort(c.Caller)
		return
	}
	c.Caller.SetDeadline(time.Now().Add(greetingTimeout))
	writeGreeting(c.Caller, p.Code)
	c.Caller.Close()
}

// until is when the certificate ends by which the caller is known; zero is
// never.
func (c *Conn) until() (end time.Time) {
	if link, ok := c.Caller.(*tls.Conn); ok {
		end = mtls.Expires(link.ConnectionState())
	}
	return end
}

// relay carries bytes until both sides are done, policy comes to refuse them, or
// the caller's certificate ends.
func (c *Conn) relay(peer *pool.Conn) {
	defer peer.Close()
	c.Caller.SetDeadline(time.Now().Add(greetingTimeout))
	if c.Link && writeGreeting(c.Caller, nil) != nil {
		c.Caller.Close()
		return
	}
	stream := c.call.Hold(c.until(), func() {
		relay.Abort(c.Caller)
		peer.Abort()
	})
	defer stream.Release()
	c.Caller.SetDeadline(time.Time{})
	peer.SetDeadline(time.Time{})
	relay.Run(c.Caller, peer.Conn, c.call.Timeouts.Idle, c.call.Edge.Sent, c.call.Edge.Received)
}
