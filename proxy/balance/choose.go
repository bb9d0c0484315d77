package balance

import (
	"cmp"
	"slices"
	"time"

	"github.com/meshd/meshd/proxy/plan"
)

// choose finds an endpoint, another than the given one if there is one.
func (s *Set) choose(now time.Duration, v *view, not *plan.Endpoint) *member {
	m := s.chooseFrom(now, &v.ready, not)
	if m == nil || same(m.Endpoint, not) {
		if other := s.chooseFrom(now, &v.spare, not); other != nil {
			return other
		}
	}
	return m
}

func (s *Set) chooseFrom(now time.Duration, t *tier, not *plan.Endpoint) *member {
	n := len(t.members)
	if n <= 1 {
		if n == 0 {
			return nil
		}
		return t.members[0]
	}
	var i int
	switch s.cluster.Balance {
	case plan.RoundRobin:
		i = t.inTurn(s.turn.Add(1))
	case plan.Random:
		i = t.draw(s.registry.random())
	default:
		i = s.better(now, t, not)
	}
	if same(t.members[i].Endpoint, not) {
		i = (i + 1) % n
	}
	return t.members[i]
}

// better draws two and takes the one with less load.
func (s *Set) better(now time.Duration, t *tier, not *plan.Endpoint) int {
	a, b := t.drawTwo(s.registry.random)
	if same(t.members[a].Endpoint, not) || s.load(now, t.members[b]) < s.load(now, t.members[a]) {
		if !same(t.members[b].Endpoint, not) {
			return b
		}
	}
	return a
}

// load is what a call would meet. Calls in flight weigh less where the weight
// is above the average.
func (s *Set) load(now time.Duration, m *member) float32 {
	pending := float32(m.state.inFlight.Load())*m.crowding + 1
	if s.cluster.Balance == plan.LeastRequest {
		return pending
	}
	return m.state.latency.read(now) * pending
}

// drawTwo draws two that differ. If weights differ, each is drawn by its weight
// and they may be the same: that way the shares of endpoints that are equally
// loaded are in proportion to their weights.
func (t *tier) drawTwo(random func() uint64) (a, b int) {
	if t.ends != nil {
		return t.draw(random()), t.draw(random())
	}
	r, n := random(), uint64(len(t.members))
	a = int((r >> 32) * n >> 32)
	b = int((r & (1<<32 - 1)) * (n - 1) >> 32)
	if b >= a {
		b++
	}
	return a, b
}

func (t *tier) draw(random uint64) int {
	if t.ends == nil {
		return int((random >> 32) * uint64(len(t.members)) >> 32)
	}
	i, found := slices.BinarySearch(t.ends, random%t.ends[len(t.ends)-1])
	if found {
		i++
	}
	return i
}

func (t *tier) inTurn(turn uint64) int {
	if t.schedule == nil {
		return int(turn % uint64(len(t.members)))
	}
	return int(t.schedule[turn%uint64(len(t.schedule))])
}

// tier prepares members for how the set chooses.
func (s *Set) tier(members []*member) tier {
	t := tier{members: members}
	if equalWeights(members) {
		return t
	}
	if s.cluster.Balance == plan.RoundRobin {
		t.schedule = schedule(members)
		return t
	}
	var sum uint64
	for _, m := range members {
		sum += weight(m)
		t.ends = append(t.ends, sum)
	}
	return t
}

func equalWeights(members []*member) bool {
	for _, m := range members {
		if weight(m) != weight(members[0]) {
			return false
		}
	}
	return true
}

func weight(m *member) uint64 { return uint64(max(m.Endpoint.Weight, 1)) }

// maxTurns bounds a schedule, at some cost to the exactness of shares.
const maxTurns = 1 << 12

// schedule spreads the turns of each member evenly.
func schedule(members []*member) []int32 {
	var sum uint64
	for _, m := range members {
		sum += weight(m)
	}
	type turn struct {
		at     float64
		member int32
	}
	var turns []turn
	for i, m := range members {
		n := weight(m)
		if sum > maxTurns {
			n = max(n*maxTurns/sum, 1)
		}
		for k := range n {
			turns = append(turns, turn{(float64(k) + 0.5) / float64(n), int32(i)})
		}
	}
	slices.SortStableFunc(turns, func(a, b turn) int { return cmp.Compare(a.at, b.at) })
	order := make([]int32, len(turns))
	for i, t := range turns {
		order[i] = t.member
	}
	return order
}
