package store

import (
	"strings"
	"testing"
)

func TestSpare(t *testing.T) {
	// A server is v, a healthy voter; d, a dead one; n, a follower without a vote.
	// The first is the one to go.
	f := func(servers string, min int, want string) {
		t.Helper()
		var h ClusterHealth
		for i, kind := range servers {
			h.Servers = append(h.Servers, PeerHealth{Peer: Peer{ID: string(rune('a' + i))}, Voter: kind != 'n', Healthy: kind != 'd'})
		}
		if got := h.Spare("a", min); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s with at least %d: %q, want %q", servers, min, got, want)
		}
	}
	f("v", 1, "last voter")
	f("vv", 1, "")
	f("dv", 1, "")
	f("vd", 1, "too few are well")
	f("vvv", 1, "could not lose one more")
	f("dvv", 1, "")
	f("dvv", 3, "2 voters would be left")
	f("vvd", 1, "too few are well")
	f("dvvv", 3, "")
	f("vvvv", 1, "")
	f("vvvvv", 1, "")
	f("ddvvv", 3, "")
	f("dddvv", 3, "too few are well")
	f("nvvv", 3, "")
	f("nv", 1, "")
}
