package dispatch

import (
	"time"

	"github.com/meshd/meshd/proxy/authz"
	"github.com/meshd/meshd/proxy/observe"
	"github.com/meshd/meshd/proxy/plan"
)

// appConnect is how long an application on this host may take to accept.
const appConnect = time.Second

// Inbound is a link from another agent to a local instance. It is used by one
// goroutine.
type Inbound struct {
	*Dispatcher
	serverName string
	caller     string // verified
	edge       *observe.Edge
}

// Inbound begins a link of a caller, a verified SPIFFE ID, to the instance with
// a TLS server name.
func (d *Dispatcher) Inbound(serverName, caller string) *Inbound {
	i := &Inbound{Dispatcher: d, serverName: serverName, caller: caller}
	service := "unknown"
	if in := i.current(); in != nil {
		service = in.plan.Service
	}
	i.edge = d.observer.Edge(observe.Inbound, caller, service)
	return i
}

var _ Origin = (*Inbound)(nil)

// current is the instance by the plan in force.
func (i *Inbound) current() *inbound { return i.world.Load().inbound[i.serverName] }

// Edge is where calls are counted that get no further than here.
func (i *Inbound) Edge() *observe.Edge { return i.edge }

// Request leads a request to the application, if policy lets it.
func (i *Inbound) Request(c *Call, r *Request) *observe.Problem {
	return i.begin(c, r)
}

// Connection leads a connection to the application, if policy lets it.
func (i *Inbound) Connection(c *Call) *observe.Problem {
	return i.begin(c, nil)
}

func (i *Inbound) begin(c *Call, r *Request) *observe.Problem {
	w := i.world.Load()
	in := w.inbound[i.serverName]
	*c = Call{dispatcher: i.Dispatcher, world: w, caller: i.caller, request: r, Edge: i.edge}
	if in == nil || in.plan.Protocol.Requests() != (r != nil) {
		return &observe.Problem{Code: observe.NotHere}
	}
	c.Timeouts = plan.Timeouts{Connect: appConnect, Idle: in.plan.Idle}
	return c.enter(in)
}

// enter hands the call to a local instance, if policy lets it.
func (c *Call) enter(in *inbound) *observe.Problem {
	if c.request != nil && in.policies.ReadsPaths() {
		if problem := c.request.canonicalize(); problem != nil {
			return problem
		}
	}
	if problem := verdict(in, c.question(), c.Edge); problem != nil {
		return problem
	}
	c.Peer, c.ClientID, c.serverName = in.app, c.caller, in.plan.ServerName
	return nil
}

// question is what policy is asked.
func (c *Call) question() authz.Call {
	if c.request == nil {
		return authz.Call{From: c.caller}
	}
	return authz.Call{From: c.caller, HTTP: true, Method: c.request.Method, Path: c.request.Path}
}
