package rpc

import (
	"strconv"
	"testing"
	"time"
)

func TestOrderLimiter(t *testing.T) {
	now := time.Unix(0, 0)
	l := newOrderLimiter()
	f := func(node string, n, needs int, want time.Duration) {
		t.Helper()
		if got := l.take(node, n, needs, now); got != want {
			t.Errorf("%d certificates of %s: wait %v, want %v", n, node, got, want)
		}
	}
	f("vm1", 5, 5, 0)
	f("vm1", 5, 5, 0)
	f("vm1", 11, 5, time.Second)
	f("vm1", 10, 5, 0)
	f("vm1", 1, 5, time.Second)
	f("vm1", 101, 101, 0) // it runs more by now
	f("vm2", 1, 1, 0)
	now = now.Add(time.Minute)
	f("vm1", 50, 5, 91*time.Second)
	f("vm3", 5000, 2500, time.Second) // more than all may have at once

	if l.told.take("vm1", now) > 0 || l.told.take("vm1", now) == 0 || l.told.take("vm2", now) > 0 {
		t.Error("refusals are not recorded once a minute and host")
	}
	for i := range 2 * maxLimited {
		now = now.Add(time.Minute)
		l.take(strconv.Itoa(i), 1, 1, now)
	}
	if len(l.hosts) > maxLimited {
		t.Errorf("%d hosts are remembered, want at most %d", len(l.hosts), maxLimited)
	}
}
