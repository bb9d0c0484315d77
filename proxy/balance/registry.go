// Package balance chooses among the endpoints of a cluster by what is known of
// them, and leaves out for a while those that fail.
//
// Time is a parameter everywhere: how long ago some fixed moment was.
package balance

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshd/meshd/proxy/plan"
)

// An Event is a change of who may be called.
type Event struct {
	Kind     EventKind
	Service  string
	Cluster  string // of panics
	Endpoint string // key of the endpoint, of ejections
}

// EventKind says what happened.
type EventKind uint8

const (
	// Ejected: the endpoint is left out, for the first time or once more.
	Ejected EventKind = iota
	// Recovered: the endpoint is called again.
	Recovered
	// PanicBegan: so many endpoints of the cluster fail that ejections are ignored.
	PanicBegan
	// PanicEnded: ejections count again.
	PanicEnded
)

// A Registry holds what is known of endpoints: latency, calls in flight,
// failures. It outlives the plans that name them.
type Registry struct {
	random func() uint64
	notify func(Event)

	mu     sync.Mutex
	groups map[string]*group
}

// NewRegistry makes a registry. random gives equally distributed numbers;
// notify is told of events, must be quick and must not call back. Both must be
// safe for concurrent use.
func NewRegistry(random func() uint64, notify func(Event)) *Registry {
	return &Registry{random: random, notify: notify, groups: map[string]*group{}}
}

// A group is the endpoints of one service, shared by its clusters.
type group struct {
	service string
	// generation changes with every ejection and recovery.
	generation atomic.Uint64
	// slowest is the slowest answer of late.
	slowest ewma

	mu        sync.Mutex
	endpoints map[string]*endpoint
	panicking map[string]bool // by name of cluster
}

// An endpoint is what is known of one instance.
type endpoint struct {
	key      string
	latency  ewma
	inFlight atomic.Int32
	breaker  breaker
}

// Compile makes the sets of all clusters there are now, and forgets endpoints
// that are in none.
func (r *Registry) Compile(now time.Duration, clusters []*plan.Cluster) map[*plan.Cluster]*Set {
	r.mu.Lock()
	defer r.mu.Unlock()
	sets := make(map[*plan.Cluster]*Set, len(clusters))
	live := map[*endpoint]bool{}
	for _, c := range clusters {
		s := r.set(now, c)
		sets[c] = s
		for i := range s.members {
			live[s.members[i].state] = true
		}
	}
	r.forget(live)
	return sets
}

func (r *Registry) set(now time.Duration, c *plan.Cluster) *Set {
	g := r.groups[c.Service]
	if g == nil {
		g = &group{service: c.Service, endpoints: map[string]*endpoint{}, panicking: map[string]bool{}}
		g.slowest.set(now, seedLatency)
		r.groups[c.Service] = g
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := &Set{cluster: c, registry: r, group: g, members: make([]member, len(c.Endpoints))}
	for i := range c.Endpoints {
		s.members[i] = member{Endpoint: &c.Endpoints[i], state: g.endpoints[c.Endpoints[i].Key]}
	}
	s.setCrowding()
	g.admit(now, s.members)
	s.rebuild(now)
	return s
}

func (s *Set) setCrowding() {
	var sum uint64
	for i := range s.members {
		sum += weight(&s.members[i])
	}
	average := float32(sum) / float32(len(s.members))
	for i := range s.members {
		s.members[i].crowding = average / float32(weight(&s.members[i]))
	}
}

// admit gives a state to members that have none. They start as average: what is
// thought to be slow is not tried for long, what is thought to be fast is
// flooded.
func (g *group) admit(now time.Duration, members []member) {
	seed := median(now, members)
	for i := range members {
		m := &members[i]
		if m.state == nil {
			m.state = &endpoint{key: m.Endpoint.Key}
			m.state.latency.set(now, seed)
			g.endpoints[m.Endpoint.Key] = m.state
		}
	}
}

func (r *Registry) forget(live map[*endpoint]bool) {
	for service, g := range r.groups {
		g.mu.Lock()
		for key, e := range g.endpoints {
			if !live[e] {
				delete(g.endpoints, key)
			}
		}
		empty := len(g.endpoints) == 0
		g.mu.Unlock()
		if empty {
			delete(r.groups, service)
		}
	}
}

// Each tells how many endpoints of each service are ready and how many are
// ejected.
func (r *Registry) Each(yield func(service string, ready, ejected int)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for service, g := range r.groups {
		ready, ejected := g.count()
		yield(service, ready, ejected)
	}
}

func (g *group) count() (ready, ejected int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.endpoints {
		if e.breaker.is(closed) {
			ready++
		} else {
			ejected++
		}
	}
	return ready, ejected
}
