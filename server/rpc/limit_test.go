package rpc

import (
	"strconv"
	"testing"
	"time"
)

func TestJoinLimiter(t *testing.T) {
	now := time.Unix(0, 0)
	attempts := func(l *joinLimiter, source string, n int) (allowed int) {
		for range n {
			if l.allow(source, now) {
				allowed++
			}
		}
		return allowed
	}
	l := newJoinLimiter()
	if got := attempts(l, "a", 100); got != sourceBurst {
		t.Errorf("%d attempts of one source were allowed at once, want %d", got, sourceBurst)
	}
	if got := attempts(l, "b", 1); got != 1 {
		t.Error("one source's attempts used up another's")
	}
	now = now.Add(3 * time.Second)
	if got := attempts(l, "a", 100); got != 3*sourceRate {
		t.Errorf("%d attempts were allowed after 3 s, want %v", got, 3*sourceRate)
	}

	l, allowed := newJoinLimiter(), 0
	for i := range 3 * maxSources {
		allowed += attempts(l, strconv.Itoa(i), 1)
	}
	if allowed != totalBurst {
		t.Errorf("%d attempts from as many sources were allowed, want %d", allowed, totalBurst)
	}
	if len(l.sources) > maxSources {
		t.Errorf("%d sources are remembered, want at most %d", len(l.sources), maxSources)
	}
}
