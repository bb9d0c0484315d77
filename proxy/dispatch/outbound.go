package dispatch

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/observe"
)

// A Request is what is asked, with room for its canonical path.
type Request struct {
	*exchange.Request
	scratch []byte
}

// canonicalize makes the path what rules are about.
func (r *Request) canonicalize() *observe.Problem {
	if r.scratch == nil {
		r.scratch = make([]byte, 0, 256)
	}
	if err := r.Canonicalize(r.scratch); err != nil {
		return &observe.Problem{Code: observe.AmbiguousPath, Err: err}
	}
	if len(r.Path) > cap(r.scratch) {
		r.scratch = r.Path[:0]
	}
	return nil
}

// Outbound is a connection of a caller on this host to a service. It is used by
// one goroutine.
type Outbound struct {
	*Dispatcher
	address netip.AddrPort
	caller  string
	name    string // of the service when the connection began

	seen    *world
	service *service
	edge    *observe.Edge
}

// Outbound begins a connection of a caller, a SPIFFE ID, to the service on an
// address.
func (d *Dispatcher) Outbound(address netip.AddrPort, caller string) *Outbound {
	o := &Outbound{Dispatcher: d, address: address, caller: caller}
	if s := o.current(); s != nil {
		o.name = s.plan.Name
	}
	return o
}

var _ Origin = (*Outbound)(nil)

// current is the service by the plan in force.
func (o *Outbound) current() *service {
	if w := o.world.Load(); w != o.seen {
		o.seen, o.service = w, w.services[o.address]
	}
	return o.service
}

// Idle is how long the caller may leave the connection unused; 0 is for ever.
func (o *Outbound) Idle() time.Duration {
	if s := o.current(); s != nil {
		return s.plan.Default.Timeouts.Idle
	}
	return 0
}

// Edge is where calls are counted that get no further than here.
func (o *Outbound) Edge() *observe.Edge { return o.edgeTo(o.name) }

// edgeTo is kept, since most connections are to one service.
func (o *Outbound) edgeTo(service string) *observe.Edge {
	if o.edge == nil || o.edge.Service() != service {
		o.edge = o.observer.Edge(observe.Outbound, o.caller, service)
	}
	return o.edge
}

// Request leads a request to an endpoint.
func (o *Outbound) Request(c *Call, r *Request) *observe.Problem {
	s := o.current()
	if s == nil || !s.plan.Protocol.Requests() {
		return &observe.Problem{Code: observe.NoConfiguration}
	}
	if s.table.ReadsPaths() {
		if problem := r.canonicalize(); problem != nil {
			return problem
		}
	}
	i := s.table.Match(r.Request)
	if i < 0 {
		i = len(s.targets) - 1
	}
	return o.begin(c, &s.targets[i], r)
}

// Connection leads a connection to an endpoint.
func (o *Outbound) Connection(c *Call) *observe.Problem {
	s := o.current()
	if s == nil {
		return &observe.Problem{Code: observe.NoConfiguration}
	}
	return o.begin(c, &s.targets[len(s.targets)-1], nil)
}

// begin picks the cluster, which retries stay with, and the first endpoint.
func (o *Outbound) begin(c *Call, t *target, r *Request) *observe.Problem {
	*c = Call{dispatcher: o.Dispatcher, world: o.seen, caller: o.caller, request: r, target: t, Timeouts: t.Timeouts}
	i := t.split.Choose(rand.Uint64())
	if i < 0 {
		c.Edge = o.Edge()
		return &observe.Problem{Code: observe.NoEndpoint}
	}
	c.cluster = t.clusters[i]
	c.Edge = o.edgeTo(c.cluster.plan.Service)
	c.cluster.budget.deposit(t.Retry.BudgetRatio, t.Retry.BudgetPerSec)
	return c.next()
}
