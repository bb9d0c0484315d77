package balance

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/meshd/meshd/proxy/plan"
)

// A Set chooses among the endpoints of one cluster. Its methods may be called
// concurrently.
type Set struct {
	cluster  *plan.Cluster
	registry *Registry
	group    *group
	members  []member
	turn     atomic.Uint64
	view     atomic.Pointer[view]
}

type member struct {
	Endpoint *plan.Endpoint
	state    *endpoint
	// crowding is how much a call in flight counts here: the average weight of
	// the set by this one's.
	crowding float32
}

// A view is who may be chosen until the next ejection or recovery in the group,
// or until an ejected endpoint is due for a probe.
type view struct {
	generation uint64
	due        time.Duration
	ready      tier
	// spare are taken when there is nobody else.
	spare tier
}

// A tier is endpoints that are as good as each other.
type tier struct {
	members []*member
	// ends of the members' shares, when their weights differ.
	ends []uint64
	// schedule is indices of members, for taking turns by weight.
	schedule []int32
}

// Pick chooses an endpoint and counts the call as in flight there. It avoids
// the endpoint given by not, if it can. ok is false if there is none.
func (s *Set) Pick(now time.Duration, not *plan.Endpoint) (c Call, ok bool) {
	v := s.view.Load()
	if v.generation != s.group.generation.Load() || now >= v.due {
		var probe *member
		if v, probe = s.refresh(now, not); probe != nil {
			return s.call(now, probe, true), true
		}
	}
	m := s.choose(now, v, not)
	if m == nil {
		return Call{}, false
	}
	return s.call(now, m, false), true
}

func (s *Set) call(now time.Duration, m *member, probe bool) Call {
	m.state.inFlight.Add(1)
	return Call{Endpoint: m.Endpoint, Probe: probe, set: s, state: m.state, start: now, era: m.state.breaker.era.Load()}
}

// refresh brings the view up to date. If an ejected endpoint is due for a
// probe, the caller is to make it.
func (s *Set) refresh(now time.Duration, not *plan.Endpoint) (v *view, probe *member) {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	for i := range s.members {
		m := &s.members[i]
		b := &m.state.breaker
		if !b.is(closed) && now >= b.until && !same(m.Endpoint, not) {
			probe = m
			b.until = now + ProbeTimeout
			b.become(probing)
			s.group.generation.Add(1)
			break
		}
	}
	return s.rebuild(now), probe
}

// rebuild makes a new view. The group's lock is held.
func (s *Set) rebuild(now time.Duration) *view {
	v := &view{generation: s.group.generation.Load(), due: math.MaxInt64}
	var preferred, spare []*member
	for i := range s.members {
		m := &s.members[i]
		if !m.state.breaker.is(closed) {
			v.due = min(v.due, m.state.breaker.until)
		}
		if m.Endpoint.Demoted || m.Endpoint.Weight == 0 {
			spare = append(spare, m)
		} else {
			preferred = append(preferred, m)
		}
	}
	// One that is due but was just avoided must not have everybody look again.
	v.due = max(v.due, now+time.Millisecond)
	ready, panicking := s.without(preferred)
	s.panics(panicking)
	v.ready = s.tier(ready)
	left, _ := s.without(spare)
	v.spare = s.tier(left)
	if len(ready) == 0 {
		v.ready, v.spare = v.spare, tier{}
	}
	s.view.Store(v)
	return v
}

// without leaves ejected endpoints out, unless they are too many.
func (s *Set) without(members []*member) (ready []*member, panicking bool) {
	for _, m := range members {
		if m.state.breaker.is(closed) {
			ready = append(ready, m)
		}
	}
	ejected := len(members) - len(ready)
	if float64(ejected) > s.cluster.Breaker.MaxEjected*float64(len(members)) {
		return members, true
	}
	return ready, false
}

func (s *Set) panics(now bool) {
	g := s.group
	if g.panicking[s.cluster.Name] == now {
		return
	}
	g.panicking[s.cluster.Name] = now
	kind := PanicEnded
	if now {
		kind = PanicBegan
	}
	s.registry.notify(Event{Kind: kind, Service: g.service, Cluster: s.cluster.Name})
}

// median is the middle of the latencies that are known.
func median(now time.Duration, members []member) time.Duration {
	var known []float32
	for i := range members {
		if e := members[i].state; e != nil {
			known = append(known, e.latency.read(now))
		}
	}
	if len(known) == 0 {
		return seedLatency
	}
	slices.Sort(known)
	return time.Duration(known[len(known)/2] * float32(time.Millisecond))
}

func same(a, b *plan.Endpoint) bool { return b != nil && a.Key == b.Key }
