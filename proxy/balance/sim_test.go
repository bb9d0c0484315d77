package balance

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/meshd/meshd/proxy/plan"
)

// A sim plays a caller and its endpoints in virtual time.
type sim struct {
	registry *Registry
	random   *rand.Rand
	set      *Set
	now      time.Duration
	events   events
	// answer is how long an endpoint takes, and whether it fails.
	answer func(key string) (time.Duration, Outcome)
	told   []Event
}

type event struct {
	at time.Duration
	do func()
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newSim(c *plan.Cluster) *sim {
	s := &sim{random: rand.New(rand.NewPCG(1, 2)), now: time.Hour}
	s.registry = NewRegistry(s.random.Uint64, func(e Event) { s.told = append(s.told, e) })
	s.use(c)
	return s
}

func (s *sim) use(c *plan.Cluster) {
	s.set = s.registry.Compile(s.now, []*plan.Cluster{c})[c]
}

// run makes calls at a rate for a while and counts them by endpoint.
func (s *sim) run(rps float64, d time.Duration) map[string]int {
	calls := map[string]int{}
	end := s.now + d
	var arrive func()
	arrive = func() {
		if s.now >= end {
			return
		}
		s.call(calls)
		gap := time.Duration(s.random.ExpFloat64() / rps * float64(time.Second))
		s.at(s.now+gap, arrive)
	}
	s.at(s.now, arrive)
	for len(s.events) > 0 && s.events[0].at < end {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.do()
	}
	s.now = end
	return calls
}

func (s *sim) at(t time.Duration, do func()) { heap.Push(&s.events, event{t, do}) }

func (s *sim) call(calls map[string]int) {
	c, ok := s.set.Pick(s.now, nil)
	if !ok {
		calls[""]++
		return
	}
	calls[c.Endpoint.Key]++
	took, outcome := s.answer(c.Endpoint.Key)
	s.at(s.now+took, func() {
		c.Result(s.now, outcome, 0)
		c.Release()
	})
}

// around spreads a latency by a fifth to both sides.
func (s *sim) around(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*s.random.Float64()))
}

func cluster(n int, policy plan.BalancePolicy) *plan.Cluster {
	c := &plan.Cluster{Name: "orders", Service: "orders", Balance: policy}
	for i := range n {
		c.Endpoints = append(c.Endpoints, plan.Endpoint{
			Key: fmt.Sprint("e", i), Weight: 1,
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 7443),
		})
	}
	return c
}

var defaultBreaker = plan.Breaker{Consecutive: 5, SuccessRate: 0.8, Window: 10 * time.Second, MaxEjected: 0.5}

func share(calls map[string]int, key string) float64 {
	var all int
	for _, n := range calls {
		all += n
	}
	return float64(calls[key]) / float64(all)
}

func within(t *testing.T, what string, got, least, most float64) {
	t.Helper()
	t.Logf("%s: %.4f", what, got)
	if got < least || got > most {
		t.Errorf("%s is %.4f, want %.4f to %.4f", what, got, least, most)
	}
}

func TestEqualEndpointsShareEqually(t *testing.T) {
	s := newSim(cluster(10, plan.EWMA))
	s.answer = func(string) (time.Duration, Outcome) { return s.around(time.Millisecond), Success }
	s.run(500, 20*time.Second)
	calls := s.run(500, 60*time.Second)
	for i := range 10 {
		within(t, "share", share(calls, fmt.Sprint("e", i)), 0.09, 0.11)
	}
}

func TestSlowEndpointIsAvoided(t *testing.T) {
	s := newSim(cluster(10, plan.EWMA))
	s.answer = func(key string) (time.Duration, Outcome) {
		if key == "e3" {
			return s.around(10 * time.Millisecond), Success
		}
		return s.around(time.Millisecond), Success
	}
	s.run(500, 60*time.Second)
	within(t, "share of the slow one", share(s.run(500, 60*time.Second), "e3"), 0.00001, 0.02)
}

func TestFastFailureAttractsNothing(t *testing.T) {
	c := cluster(10, plan.EWMA)
	s := newSim(c)
	s.answer = func(key string) (time.Duration, Outcome) {
		if key == "e3" {
			return s.around(200 * time.Microsecond), Failure
		}
		return s.around(5 * time.Millisecond), Success
	}
	s.run(1000, 20*time.Second)
	within(t, "share without breaker", share(s.run(1000, 20*time.Second), "e3"), 0, 0.05)
	c = cluster(10, plan.EWMA)
	c.Breaker = defaultBreaker
	s.use(c)
	s.run(1000, 20*time.Second)
	within(t, "share with breaker", share(s.run(1000, 20*time.Second), "e3"), 0, 0.0002)
}

func TestNewEndpointGetsItsShare(t *testing.T) {
	s := newSim(cluster(9, plan.EWMA))
	s.answer = func(string) (time.Duration, Outcome) { return s.around(time.Millisecond), Success }
	s.run(500, 60*time.Second)
	s.use(cluster(10, plan.EWMA))
	for range 5 {
		within(t, "share of the new one", share(s.run(500, 2*time.Second), "e9"), 0.05, 0.2)
	}
}

func TestDyingEndpoint(t *testing.T) {
	c := cluster(10, plan.EWMA)
	c.Breaker = defaultBreaker
	s := newSim(c)
	dead := false
	s.answer = func(key string) (time.Duration, Outcome) {
		if dead && key == "e3" {
			return time.Second, Failure
		}
		return s.around(5 * time.Millisecond), Success
	}
	s.run(500, 30*time.Second)
	dead = true
	within(t, "share in the first two seconds", share(s.run(500, 2*time.Second), "e3"), 0, 0.02)
	within(t, "share while dead", share(s.run(500, 30*time.Second), "e3"), 0, 0.001)
	dead = false
	s.run(500, 60*time.Second)
	within(t, "share once well again", share(s.run(500, 30*time.Second), "e3"), 0.08, 0.12)
}

func TestPoliciesAgainstOneSlowEndpoint(t *testing.T) {
	f := func(policy plan.BalancePolicy, least, most float64) {
		t.Helper()
		s := newSim(cluster(10, policy))
		s.answer = func(key string) (time.Duration, Outcome) {
			if key == "e3" {
				return s.around(50 * time.Millisecond), Success
			}
			return s.around(5 * time.Millisecond), Success
		}
		s.run(1000, 20*time.Second)
		within(t, "share", share(s.run(1000, 20*time.Second), "e3"), least, most)
	}
	f(plan.EWMA, 0.00001, 0.01)
	f(plan.LeastRequest, 0.01, 0.05)
	f(plan.RoundRobin, 0.0999, 0.1001)
	f(plan.Random, 0.09, 0.11)
}

func TestWeights(t *testing.T) {
	f := func(policy plan.BalancePolicy, tolerance float64) {
		t.Helper()
		c := cluster(3, policy)
		c.Endpoints[1].Weight, c.Endpoints[2].Weight = 3, 6
		s := newSim(c)
		s.answer = func(string) (time.Duration, Outcome) { return s.around(time.Millisecond), Success }
		s.run(500, 20*time.Second)
		calls := s.run(500, 60*time.Second)
		for key, want := range map[string]float64{"e0": 0.1, "e1": 0.3, "e2": 0.6} {
			within(t, key, share(calls, key), want-tolerance, want+tolerance)
		}
	}
	f(plan.EWMA, 0.1) // it evens latency out first
	f(plan.LeastRequest, 0.04)
	f(plan.RoundRobin, 0.001)
	f(plan.Random, 0.01)
}
