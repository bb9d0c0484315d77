package rpc

import (
	"strconv"
	"testing"
	"time"
)

// count tells how many of n attempts are let through.
func count(n int, take func() time.Duration) (allowed int) {
	for range n {
		if take() == 0 {
			allowed++
		}
	}
	return allowed
}

func TestJoinLimiter(t *testing.T) {
	now := time.Unix(0, 0)
	attempts := func(l *joinLimiter, source string, n int) int {
		return count(n, func() time.Duration { return l.take(source, now) })
	}
	l := newJoinLimiter()
	if got := attempts(l, "a", 100); got != joinBurst {
		t.Errorf("%d attempts of one source were allowed at once, want %d", got, joinBurst)
	}
	if got := attempts(l, "b", 1); got != 1 {
		t.Error("one source's attempts used up another's")
	}
	now = now.Add(3 * time.Second)
	if got := attempts(l, "a", 100); got != 3*joinRate {
		t.Errorf("%d attempts were allowed after 3 s, want %v", got, 3*joinRate)
	}

	l, allowed := newJoinLimiter(), 0
	for i := range 3 * maxLimited {
		allowed += attempts(l, strconv.Itoa(i), 1)
	}
	if allowed != allJoinsBurst {
		t.Errorf("%d attempts from as many sources were allowed, want %d", allowed, allJoinsBurst)
	}
	if n := len(l.sources.known); n > maxLimited {
		t.Errorf("%d sources are remembered, want at most %d", n, maxLimited)
	}
}

func TestLimiterTellsWhenToComeBack(t *testing.T) {
	now := time.Unix(0, 0)
	l := newLimiter(2, 3)
	take := func() time.Duration { return l.take("a", now) }
	if wait := l.ask("a", now); wait != 0 {
		t.Errorf("who has done nothing is to wait %v", wait)
	}
	if got := count(10, take); got != 3 {
		t.Errorf("%d were let through, want 3", got)
	}
	if wait := take(); wait != 500*time.Millisecond || l.ask("a", now) != wait {
		t.Errorf("the next is to wait %v, %v", wait, l.ask("a", now))
	}
	now = now.Add(500 * time.Millisecond)
	if wait := take(); wait != 0 {
		t.Errorf("who came when told is to wait %v", wait)
	}
}

// Who is remembered is forgotten again when that makes no difference.
func TestLimiterForgets(t *testing.T) {
	now := time.Unix(0, 0)
	l := newLimiter(1, 2)
	for i := range maxLimited {
		l.take(strconv.Itoa(i), now)
	}
	now = now.Add(time.Second)
	count(2, func() time.Duration { return l.take("0", now) })
	l.take("new", now)
	if len(l.known) != 2 || l.ask("0", now) == 0 {
		t.Errorf("%d are remembered, and one that did too much is to wait %v", len(l.known), l.ask("0", now))
	}
}
