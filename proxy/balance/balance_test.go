package balance

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshd/meshd/proxy/plan"
)

// pick makes a call at once and returns it unfinished.
func (s *sim) pick(t *testing.T, not *plan.Endpoint) Call {
	t.Helper()
	c, ok := s.set.Pick(s.now, not)
	if !ok {
		t.Fatal("there is nobody to call")
	}
	return c
}

// fail makes calls to one endpoint fail until it is ejected.
func (s *sim) fail(t *testing.T, key string) {
	t.Helper()
	before := len(s.told)
	for range 10_000 {
		c := s.pick(t, nil)
		if c.Endpoint.Key == key {
			c.Result(s.now, Failure, 0)
		}
		c.Release()
		if len(s.told) > before && s.told[len(s.told)-1].Endpoint == key {
			return
		}
	}
	t.Fatalf("%s is not ejected: %v", key, s.told)
}

func (s *sim) chosen(n int) map[string]int {
	calls := map[string]int{}
	for range n {
		if c, ok := s.set.Pick(s.now, nil); ok {
			calls[c.Endpoint.Key]++
			c.Release()
		}
	}
	return calls
}

func broken(n int) *plan.Cluster {
	c := cluster(n, plan.Random)
	c.Breaker = defaultBreaker
	return c
}

func TestNobodyToCall(t *testing.T) {
	if _, ok := newSim(cluster(0, plan.EWMA)).set.Pick(0, nil); ok {
		t.Error("somebody is called")
	}
}

func TestPreviousEndpointIsAvoided(t *testing.T) {
	for _, policy := range []plan.BalancePolicy{plan.EWMA, plan.LeastRequest, plan.RoundRobin, plan.Random} {
		for _, n := range []int{1, 2, 3} {
			c := cluster(n, policy)
			c.Endpoints[0].Weight = 100
			s := newSim(c)
			for range 100 {
				got := s.pick(t, &c.Endpoints[0])
				got.Release()
				if (got.Endpoint.Key == "e0") != (n == 1) {
					t.Fatalf("policy %v, %d endpoints: %s is called", policy, n, got.Endpoint.Key)
				}
			}
		}
	}
}

func TestDemotedEndpointsComeLast(t *testing.T) {
	c := cluster(4, plan.EWMA)
	c.Endpoints[0].Demoted, c.Endpoints[1].Weight = true, 0
	s := newSim(c)
	if got := s.chosen(100); got["e0"]+got["e1"] != 0 {
		t.Errorf("calls went to %v", got)
	}
	c.Endpoints[2].Demoted, c.Endpoints[3].Demoted = true, true
	s.use(c)
	if got := s.chosen(1000); len(got) != 4 {
		t.Errorf("calls went to %v", got)
	}
	only := cluster(2, plan.EWMA)
	only.Endpoints[1].Demoted = true
	s.use(only)
	if c := s.pick(t, &only.Endpoints[0]); c.Endpoint.Key != "e1" {
		t.Errorf("a retry went to %s though there is another", c.Endpoint.Key)
	}
}

func TestFailuresInARowEject(t *testing.T) {
	s := newSim(broken(4))
	for range 4 {
		c := s.pick(t, nil)
		c.Result(s.now, Failure, 0)
		c.Release()
	}
	if len(s.told) != 0 && len(s.chosen(100)) != 4 {
		t.Fatal("ejected too early")
	}
	s.fail(t, "e1")
	if got := s.chosen(1000); got["e1"] != 0 || len(got) != 3 {
		t.Errorf("calls went to %v", got)
	}
	if diff := cmp.Diff([]Event{{Kind: Ejected, Service: "orders", Endpoint: "e1"}}, s.told); diff != "" {
		t.Error(diff)
	}
	s.registry.Each(func(service string, ready, ejected int) {
		if service != "orders" || ready != 3 || ejected != 1 {
			t.Errorf("%s: %d ready, %d ejected", service, ready, ejected)
		}
	})
}

func TestSuccessRateEjects(t *testing.T) {
	c := cluster(2, plan.Random)
	c.Breaker = plan.Breaker{SuccessRate: 0.8, Window: 10 * time.Second, MaxEjected: 0.5}
	s := newSim(c)
	// Every third call fails, spread over the window.
	for i := 0; i < 60 && len(s.told) == 0; i++ {
		s.now += 100 * time.Millisecond
		call := s.pick(t, nil)
		if call.Endpoint.Key == "e1" && i%3 == 0 {
			call.Result(s.now, Failure, 0)
		} else {
			call.Result(s.now, Success, 0)
		}
		call.Release()
	}
	if diff := cmp.Diff([]Event{{Kind: Ejected, Service: "orders", Endpoint: "e1"}}, s.told); diff != "" {
		t.Error(diff)
	}
}

func TestOldFailuresAreForgotten(t *testing.T) {
	c := cluster(1, plan.EWMA)
	c.Breaker = plan.Breaker{SuccessRate: 0.8, Window: 10 * time.Second, MaxEjected: 1}
	s := newSim(c)
	for range 100 {
		call := s.pick(t, nil)
		call.Result(s.now, Failure, 0)
		call.Release()
		s.now += 3 * time.Second // at most four within a window
	}
	if len(s.told) != 0 {
		t.Errorf("ejected by failures of long ago: %v", s.told)
	}
}

func TestOverloadAndCancellationDoNotEject(t *testing.T) {
	s := newSim(broken(2))
	for range 100 {
		c := s.pick(t, nil)
		c.Result(s.now, Overloaded, 0)
		c.Release()
		c = s.pick(t, nil)
		c.Result(s.now, Cancelled, 0)
		c.Release()
	}
	if len(s.told) != 0 {
		t.Errorf("told %v", s.told)
	}
}

func TestOneProbeDecides(t *testing.T) {
	s := newSim(broken(2))
	straggler := s.pick(t, nil)
	for straggler.Endpoint.Key != "e1" {
		straggler = s.pick(t, nil)
	}
	s.fail(t, "e1")
	s.now += 2 * time.Second
	probe := s.pick(t, nil)
	if !probe.Probe || probe.Endpoint.Key != "e1" {
		t.Fatalf("called %s, probe %v", probe.Endpoint.Key, probe.Probe)
	}
	if got := s.chosen(100); got["e1"] != 0 {
		t.Errorf("more than one probe: %v", got)
	}
	straggler.Result(s.now, Success, 0)
	if got := s.chosen(100); got["e1"] != 0 {
		t.Error("a straggler decided")
	}
	probe.Result(s.now, Success, 0)
	if got := s.chosen(100); got["e1"] == 0 {
		t.Error("still left out after a successful probe")
	}
	for range 10 {
		straggler.Result(s.now, Failure, 0)
	}
	if got := s.chosen(100); got["e1"] == 0 {
		t.Error("a straggler ejected")
	}
}

func TestEjectionsGrow(t *testing.T) {
	s := newSim(broken(2))
	s.fail(t, "e1")
	length := time.Second
	for range 10 {
		began := s.now
		probe := s.pick(t, nil)
		for !probe.Probe {
			s.now += 10 * time.Millisecond
			probe = s.pick(t, nil)
		}
		if out := s.now - began; out < length || out > min(length*3/2, maxEjection)+10*time.Millisecond {
			t.Errorf("out for %v, want %v and up to half of that more", out, length)
		}
		probe.Result(s.now, Failure, 0)
		length = min(2*length, time.Minute)
	}
	// It does well for a while, and starts anew.
	s.now += time.Minute
	probe := s.pick(t, nil)
	probe.Result(s.now, Success, 0)
	s.now += 2 * time.Minute
	s.fail(t, "e1")
	s.now += 1500 * time.Millisecond
	if c := s.pick(t, nil); !c.Probe {
		t.Error("the first ejection after a good while is not a short one")
	}
}

func TestLostProbeIsMadeAgain(t *testing.T) {
	s := newSim(broken(2))
	s.fail(t, "e1")
	s.now += 2 * time.Second
	lost := s.pick(t, nil)
	s.now += ProbeTimeout + time.Millisecond
	again := s.pick(t, nil)
	if !lost.Probe || !again.Probe {
		t.Fatal("no probe")
	}
	lost.Result(s.now, Success, 0)
	if got := s.chosen(100); got["e1"] != 0 {
		t.Error("a probe that was given up decided")
	}
	again.Result(s.now, Cancelled, 0)
	if c := s.pick(t, nil); !c.Probe {
		t.Error("the next call after a cancelled probe is none")
	}
}

func TestPanicWhenTooManyFail(t *testing.T) {
	s := newSim(broken(3))
	s.fail(t, "e0")
	if got := s.chosen(100); got["e0"] != 0 {
		t.Errorf("calls went to %v", got)
	}
	s.fail(t, "e1")
	if got := s.chosen(300); len(got) != 3 {
		t.Errorf("calls went to %v", got)
	}
	s.now += 2 * time.Second
	probe := s.pick(t, nil)
	probe.Result(s.now, Success, 0)
	s.chosen(1)
	var kinds []EventKind
	for _, e := range s.told {
		kinds = append(kinds, e.Kind)
	}
	if diff := cmp.Diff([]EventKind{Ejected, Ejected, PanicBegan, Recovered, PanicEnded}, kinds); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyEndpointStays(t *testing.T) {
	s := newSim(broken(1))
	s.fail(t, "e0")
	if got := s.chosen(10); got["e0"] != 10 {
		t.Errorf("calls went to %v", got)
	}
}

func TestStateSurvivesPlans(t *testing.T) {
	s := newSim(broken(4))
	s.fail(t, "e1")
	s.use(broken(4))
	if got := s.chosen(1000); got["e1"] != 0 {
		t.Errorf("a new plan forgot an ejection: %v", got)
	}
	s.use(broken(1)) // e1 is gone
	s.use(broken(4))
	if got := s.chosen(1000); got["e1"] == 0 {
		t.Errorf("an endpoint that came back is still out: %v", got)
	}
}

func TestRetryAfter(t *testing.T) {
	s := newSim(cluster(2, plan.EWMA))
	c := s.pick(t, nil)
	c.Result(s.now, Overloaded, 20*time.Second)
	c.Release()
	if got := s.chosen(1000); got[c.Endpoint.Key] != 0 {
		t.Errorf("calls went to %v", got)
	}
}

func TestCancellationOnlyRaises(t *testing.T) {
	s := newSim(cluster(1, plan.EWMA))
	before := s.set.members[0].state.latency.read(s.now)
	c := s.pick(t, nil)
	s.now += time.Millisecond
	c.Result(s.now, Cancelled, 0)
	c.Release()
	if after := s.set.members[0].state.latency.read(s.now); after < before*0.99 {
		t.Errorf("latency fell from %v to %v ms", before, after)
	}
	c = s.pick(t, nil)
	s.now += time.Second
	c.Result(s.now, Cancelled, 0)
	if after := s.set.members[0].state.latency.read(s.now); after != 1000 {
		t.Errorf("latency is %v ms, want 1000", after)
	}
}

func TestEWMASurvivesClockWrap(t *testing.T) {
	var e ewma
	now := (1<<32 - 5) * time.Millisecond
	e.set(now, 50*time.Millisecond)
	if got := e.read(now + 10*time.Second); got < 18 || got > 19 {
		t.Errorf("after 10 s, 50 ms became %v ms, want 50/e", got)
	}
}

func TestManyUnequalWeights(t *testing.T) {
	c := cluster(10_000, plan.RoundRobin)
	for i := range c.Endpoints {
		c.Endpoints[i].Weight = uint32(1 + i%1000)
	}
	s := newSim(c)
	if n := len(s.set.view.Load().ready.schedule); n < 10_000 || n > 20_000 {
		t.Errorf("a schedule of %d turns", n)
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	for _, policy := range []plan.BalancePolicy{plan.EWMA, plan.LeastRequest, plan.RoundRobin, plan.Random} {
		c := cluster(10, policy)
		c.Breaker = defaultBreaker
		s := newSim(c)
		if n := testing.AllocsPerRun(1000, func() {
			s.now += time.Millisecond
			call, _ := s.set.Pick(s.now, nil)
			call.Result(s.now, Success, 0)
			call.Release()
		}); n != 0 {
			t.Errorf("policy %v: %v allocations", policy, n)
		}
	}
}

// Calls, failures and plans at the same time: for the race detector.
func TestConcurrentUse(t *testing.T) {
	registry := NewRegistry(rand.Uint64, func(Event) {})
	c := broken(8)
	compile := func(now time.Duration) *Set { return registry.Compile(now, []*plan.Cluster{c})[c] }
	done := make(chan struct{})
	for i := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for n := range 500 {
				now := time.Duration(n) * time.Millisecond
				set := compile(now)
				call, ok := set.Pick(now, nil)
				if !ok {
					t.Error("nobody to call")
					return
				}
				call.Result(now, Outcome(n*i%3), 0)
				call.Release()
			}
		}()
	}
	for range 4 {
		<-done
	}
	for _, e := range registry.groups["orders"].endpoints {
		if n := e.inFlight.Load(); n != 0 {
			t.Errorf("%d calls left over", n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	c := cluster(10, plan.EWMA)
	c.Breaker = defaultBreaker
	set := NewRegistry(rand.Uint64, func(Event) {}).Compile(0, []*plan.Cluster{c})[c]
	b.RunParallel(func(pb *testing.PB) {
		var now time.Duration
		for pb.Next() {
			now += 10 * time.Microsecond
			call, _ := set.Pick(now, nil)
			call.Result(now+time.Millisecond, Success, 0)
			call.Release()
		}
	})
}
