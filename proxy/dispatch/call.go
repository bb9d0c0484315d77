package dispatch

import (
	"errors"
	"time"

	"github.com/meshd/meshd/proxy/balance"
	"github.com/meshd/meshd/proxy/mtls"
	"github.com/meshd/meshd/proxy/observe"
	"github.com/meshd/meshd/proxy/plan"
	"github.com/meshd/meshd/proxy/pool"
)

// A Call is a request or connection on its way. Its fields are about the try
// that is being made.
type Call struct {
	Timeouts plan.Timeouts
	Edge     *observe.Edge
	// Peer is whom the try goes to.
	Peer *pool.Peer
	// ClientID is what an application is told of the caller.
	ClientID string
	// Tries is how many endpoints were tried.
	Tries int

	dispatcher *Dispatcher
	world      *world
	caller     string
	request    *Request
	target     *target // nil of calls from other agents
	cluster    *cluster
	serverName string // of the local instance that is called
	try        balance.Call
	trying     bool
	heard      time.Duration // when the answer began, if it was told before its outcome
}

// next picks an endpoint, another than the last one if there is one.
func (c *Call) next() *observe.Problem {
	last := c.try.Endpoint
	try, ok := c.cluster.set.Pick(c.dispatcher.now(), last)
	if !ok {
		return &observe.Problem{Code: observe.NoEndpoint}
	}
	c.try, c.trying, c.heard = try, true, 0
	c.Tries++
	if !try.Endpoint.Local {
		c.Peer, c.ClientID, c.serverName = c.cluster.peers[try.Endpoint], "", ""
		return nil
	}
	in := c.world.inbound[try.Endpoint.ServerName]
	if in == nil {
		c.Failed()
		return &observe.Problem{Code: observe.NotHere}
	}
	return c.enter(in)
}

// Connect gives a connection that has carried no call yet.
func (c *Call) Connect() (*pool.Conn, *observe.Problem) {
	conn, err := c.Peer.Dial(c.caller, c.Timeouts.Connect)
	if err != nil {
		return nil, &observe.Problem{Code: c.connectCode(err), Err: err}
	}
	return conn, nil
}

// Reach gives a way for the try of a request. A fresh one has carried no call yet. Upgrades go over HTTP/1.1, which
// gives each a connection of its own.
func (c *Call) Reach(fresh bool) (pool.Way, *observe.Problem) {
	way, err := c.Peer.Reach(c.caller, c.Timeouts.Connect, fresh, c.request.Upgrade != nil)
	if err != nil {
		return way, &observe.Problem{Code: c.connectCode(err), Err: err}
	}
	if c.trying {
		c.try.Restart(c.dispatcher.now())
	}
	return way, nil
}

func (c *Call) connectCode(err error) *observe.Code {
	switch {
	case errors.Is(err, mtls.ErrNoCertificate):
		return observe.NoCertificate
	case mtls.IsIdentityError(err):
		return observe.Identity
	case c.Peer.Application():
		return observe.AppConnectFailed
	}
	return observe.ConnectFailed
}

// Endpoint is the key of the endpoint that is tried, for people to see.
func (c *Call) Endpoint() string {
	if c.try.Endpoint == nil {
		return ""
	}
	return c.try.Endpoint.Key
}

// TryLimit is how long this try may take until it is answered; 0 is no limit.
func (c *Call) TryLimit() time.Duration {
	var limit time.Duration
	if c.target != nil {
		limit = c.target.Retry.PerTry
	}
	if c.try.Probe && (limit == 0 || limit > balance.ProbeTimeout) {
		limit = balance.ProbeTimeout
	}
	return limit
}

// Connected says that a connection came about, for calls that are connections.
func (c *Call) Connected() { c.result(balance.Success, 0) }

// Heard says that a response has begun, whose outcome is told later.
func (c *Call) Heard() { c.heard = c.dispatcher.now() }

// Answered says that a response has begun. said is the reason why the other
// agent answered in place of the application, if it did, and retryAfter how
// long the application asked not to be called.
func (c *Call) Answered(status int, said *observe.Code, retryAfter time.Duration) {
	switch {
	case said == observe.Denied:
		// It shows nothing of the application, and would do so anywhere.
		c.result(balance.Cancelled, 0)
	case status == 429:
		c.result(balance.Overloaded, retryAfter)
	case status >= 500:
		c.result(balance.Failure, retryAfter)
	default:
		c.result(balance.Success, 0)
	}
}

// Failed says that the endpoint failed the call.
func (c *Call) Failed() { c.result(balance.Failure, 0) }

// Cancelled says that the caller gave up.
func (c *Call) Cancelled() { c.result(balance.Cancelled, 0) }

func (c *Call) result(o balance.Outcome, retryAfter time.Duration) {
	if c.trying {
		now := c.heard
		if now == 0 {
			now = c.dispatcher.now()
		}
		c.try.Result(now, o, retryAfter)
	}
}

// End ends the try. It must be called before the next one, and at the end.
func (c *Call) End() {
	if c.trying {
		c.try.Release()
		c.trying = false
	}
}
