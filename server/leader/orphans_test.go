package leader

import (
	"testing"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func TestServersAreDeadAfterAWhile(t *testing.T) {
	start := time.Unix(0, 0)
	o := newOrphans(start.Add(grace))
	set := func(ids ...string) map[string]bool {
		m := map[string]bool{}
		for _, id := range ids {
			m[id] = true
		}
		return m
	}
	f := func(after time.Duration, alive map[string]bool, want bool) {
		t.Helper()
		if got := o.dead(start.Add(after), set("s1", "s2"), alive)["s2"]; got != want {
			t.Errorf("after %v: dead is %v, want %v", after, got, want)
		}
	}
	f(0, set("s1"), false)
	f(deadFor, set("s1"), false) // a new leader waits longer
	f(grace, set("s1"), true)
	f(grace+time.Second, set("s1", "s2"), false)
	f(grace+2*time.Second, set("s1"), false)
	f(grace+2*time.Second+deadFor, set("s1"), true)
	o.dead(start, set("s1"), set("s1"))
	if len(o.since) != 0 {
		t.Errorf("servers that hold no lease are remembered: %v", o.since)
	}
}

func TestSpentTokens(t *testing.T) {
	f := func(token *apiv1.Token, want bool) {
		t.Helper()
		if got := spent(token, time.Unix(1000, 0)); got != want {
			t.Errorf("%v: spent is %v, want %v", token, got, want)
		}
	}
	f(&apiv1.Token{ExpiresUnix: 1001}, false)
	f(&apiv1.Token{ExpiresUnix: 1000}, true)
	f(&apiv1.Token{ExpiresUnix: 2000, UsedUnix: 1001}, false)
	f(&apiv1.Token{ExpiresUnix: 2000, UsedUnix: 1000}, true)
	f(&apiv1.Token{ExpiresUnix: 2000, UsedUnix: 1000, Reusable: true}, false)
}
