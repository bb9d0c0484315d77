package server_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/meshd/meshd/internal/meshtest"
)

// How long writes wait when the leader is killed and when it is stopped, by the
// bubble's clock: what Raft's timing costs, without the machine's own.
func TestGapsInWrites(t *testing.T) {
	f := func(how string, times int, end func(*meshtest.Server), median, worst time.Duration) {
		t.Helper()
		bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
			var gaps []time.Duration
			for i := range times {
				leader, follower := m.Leader(), m.Follower()
				follower.Admin() // connected before
				ended := make(chan struct{})
				go func() { defer close(ended); end(leader) }()
				gaps = append(gaps, longestGap(follower, fmt.Sprintf("%s-%d", how, i)))
				<-ended
				leader.Restart()
				<-leader.Ready()
			}
			slices.Sort(gaps)
			t.Logf("%s, %d times: writes waited %v in the median, %v at worst", how, times, gaps[times/2], gaps[times-1])
			if gaps[times/2] > median || gaps[times-1] > worst {
				t.Errorf("%s: writes waited %v", how, gaps)
			}
		})
	}
	kills := 50
	if testing.Short() {
		kills = 10
	}
	f("killed", kills, (*meshtest.Server).Crash, 2*time.Second, 5*time.Second)
	f("stopped", 10, (*meshtest.Server).Stop, 300*time.Millisecond, time.Second)
}

// longestGap writes without a pause for some seconds and gives the longest time
// between two acknowledged writes.
func longestGap(s *meshtest.Server, name string) (longest time.Duration) {
	last := time.Now()
	for end := last.Add(2 * time.Second); time.Now().Before(end) || time.Since(last) > time.Second; time.Sleep(50 * time.Millisecond) {
		if tryApply(s, service(name)) == nil {
			longest, last = max(longest, time.Since(last)), time.Now()
		}
	}
	return longest
}
