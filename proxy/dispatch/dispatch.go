// Package dispatch leads a call from what is asked to the peer that is to
// answer: by route, policy and balance, and by retries if the first one fails.
package dispatch

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshd/meshd/proxy/authz"
	"github.com/meshd/meshd/proxy/balance"
	"github.com/meshd/meshd/proxy/mtls"
	"github.com/meshd/meshd/proxy/observe"
	"github.com/meshd/meshd/proxy/plan"
	"github.com/meshd/meshd/proxy/pool"
)

// A Dispatcher holds the compiled plan and what outlives plans: connections,
// what is known of endpoints, retry budgets, open streams.
type Dispatcher struct {
	observer *observe.Observer
	pool     *pool.Pool
	balance  *balance.Registry
	start    time.Time
	world    atomic.Pointer[world]

	mu      sync.Mutex
	budgets map[string]*budget
	streams map[*Stream]struct{}
}

// New makes a dispatcher without a plan: all calls are refused.
func New(p *pool.Pool, o *observe.Observer) *Dispatcher {
	d := &Dispatcher{observer: o, pool: p, start: time.Now(), budgets: map[string]*budget{}, streams: map[*Stream]struct{}{}}
	d.balance = balance.NewRegistry(rand.Uint64, d.tell)
	d.world.Store(&world{})
	return d
}

// tell passes events of the balancer on to people.
func (d *Dispatcher) tell(e balance.Event) {
	switch e.Kind {
	case balance.Ejected:
		d.observer.Ejected(e.Service, e.Endpoint)
	case balance.Recovered:
		d.observer.Recovered(e.Service, e.Endpoint)
	case balance.PanicBegan:
		d.observer.Panic(e.Cluster, true)
	case balance.PanicEnded:
		d.observer.Panic(e.Cluster, false)
	}
}

// EachService tells how many endpoints of each service are ready and ejected.
func (d *Dispatcher) EachService(yield func(service string, ready, ejected int)) {
	d.balance.Each(yield)
}

// Swap has all calls from now on follow a plan. Calls that have begun end as
// they began, but streams that policy now refuses are cut.
func (d *Dispatcher) Swap(p *plan.Plan) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.compile(p)
	d.world.Store(w)
	d.recheck(w)
}

// Version is that of the plan in force, 0 without one.
func (d *Dispatcher) Version() uint64 { return d.world.Load().version }

// now is the time as balancers have it.
func (d *Dispatcher) now() time.Duration { return time.Since(d.start) }

// Service is what listens on an address for callers of this host, or nil.
func (d *Dispatcher) Service(address netip.AddrPort) *plan.Service {
	if s := d.world.Load().services[address]; s != nil {
		return s.plan
	}
	return nil
}

// Host is what a TLS server name stands for.
func (d *Dispatcher) Host(serverName string) (mtls.Host, bool) {
	in := d.world.Load().inbound[serverName]
	if in == nil {
		return mtls.Host{}, false
	}
	return mtls.Host{Identity: in.plan.Identity, Protocols: protocols(in.plan.Protocol)}, true
}

// Protocols of links between agents, as TLS names them.
const (
	LinkHTTP = "http/1.1"
	LinkTCP  = "meshd-tcp"
)

func alpn(p plan.Protocol) string {
	if p.Requests() {
		return LinkHTTP
	}
	return LinkTCP
}

// protocols are those of links to an instance, the best first.
func protocols(p plan.Protocol) []string {
	if p.Requests() {
		return []string{mtls.HTTP2, LinkHTTP}
	}
	return []string{LinkTCP}
}

// An Origin is where calls come from: one connection of a caller.
type Origin interface {
	// Request leads a request to its first peer. r is changed to what has to be
	// forwarded.
	Request(c *Call, r *Request) *observe.Problem
	// Connection leads a whole connection to its first peer.
	Connection(c *Call) *observe.Problem
	// Edge is where calls are counted that get no further than here.
	Edge() *observe.Edge
}

// verdict evaluates policy, and counts.
func verdict(in *inbound, c authz.Call, e *observe.Edge) *observe.Problem {
	v := in.policies.Evaluate(c)
	switch {
	case !v.Allowed:
		e.Refused(v.Policy)
		return &observe.Problem{Code: observe.Denied, Err: refusal(v)}
	case v.Audited:
		e.Audited(v.Policy, v.Rule)
	default:
		e.Allowed()
	}
	return nil
}

// A refusal is a verdict as an error.
type refusal authz.Verdict

func (r refusal) Error() string {
	switch {
	case r.Rule != "":
		return "rule " + r.Rule + " of policy " + r.Policy + " refuses the caller"
	case r.Policy != "":
		return "policy " + r.Policy + " allows only other callers"
	}
	return "no policy allows the caller"
}
