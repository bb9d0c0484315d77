package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshd/meshd/store/command"
)

func TestMembers(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		f := func(want ...string) {
			t.Helper()
			members, err := leader.Servers()
			c.must(err)
			var got []string
			for _, m := range members {
				got = append(got, fmt.Sprint(m.ID, " ", m.Address, " ", m.Voter))
			}
			if !slices.Equal(got, want) {
				c.Errorf("members %q, want %q", got, want)
			}
		}
		f("s1 10.0.0.1:7300 true", "s2 10.0.0.2:7300 true", "s3 10.0.0.3:7300 true")
		if err := leader.AddVoter(c.Context(), "s4", "10.0.0.2:7300"); err == nil || !strings.Contains(err.Error(), "server s2 has the address") {
			c.Errorf("two servers with one address: %v", err)
		}
		if err := leader.AddVoter(c.Context(), "", ""); err == nil {
			c.Error("a server without a name was added")
		}
		follower := c.follower(leader)
		if err := c.stores[follower].RemoveServer(c.Context(), "s1"); !errors.Is(err, ErrNotLeader) {
			c.Errorf("a follower removed a server: %v", err)
		}
		c.must(leader.RemoveServer(c.Context(), "s3"))
		c.must(leader.RemoveServer(c.Context(), "s3"))
		f("s1 10.0.0.1:7300 true", "s2 10.0.0.2:7300 true")

		c.must(leader.RemoveServer(c.Context(), "s1"))
		c.writeVia("s2", "web", "s1")
		leader = c.stores["s2"]
		f("s2 10.0.0.2:7300 true")
		if err := leader.RemoveServer(c.Context(), "s2"); err == nil || !strings.Contains(err.Error(), "last one") {
			c.Errorf("the last server was removed: %v", err)
		}
	})
}

func TestTransferLeadership(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		if err := leader.TransferLeadership(c.Context(), "s9"); err == nil || !strings.Contains(err.Error(), `no member "s9"`) {
			c.Errorf("%v", err)
		}
		if err := c.stores[c.follower(leader)].TransferLeadership(c.Context(), ""); !errors.Is(err, ErrNotLeader) {
			c.Errorf("a follower handed over: %v", err)
		}
		c.must(leader.TransferLeadership(c.Context(), ""))
		c.writeVia("s1", "web", leader.config.ID)
	})
}

// An empty server waits to be added and elects nobody, least of all itself.
func TestEmptyServerWaits(t *testing.T) {
	bubble(t, 1, Timing{}, func(c *cluster) {
		c.addHost("s2")
		s := c.start("s2")
		c.pass(time.Minute)
		if l, _ := s.WatchLeader(); l != (Leadership{}) {
			c.Errorf("an empty server knows of a leader: %+v", l)
		}
		var notLeader *NotLeaderError
		if _, err := s.Apply(c.Context(), put("web")); !errors.As(err, &notLeader) || notLeader.Address != "" || !strings.Contains(err.Error(), "majority") {
			c.Errorf("%v", err)
		}
		leader := c.stores["s1"]
		c.must(leader.AddVoter(c.Context(), "s2", c.address("s2")))
		c.sees("s2", c.write(leader, "web").Index, "settled", "web")
		if l := c.leaderSeenBy("s2"); l != leader {
			c.Error("the new member follows another leader")
		}
	})
}

// Whoever watches sees every time of leading begin and end.
func TestWatchLeader(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		first, lost := leader.WatchLeader()
		if !first.Leads || first.ID != leader.config.ID || first.Address != leader.config.Address || first.Term == 0 {
			c.Errorf("%+v", first)
		}
		c.isolate(leader.config.ID)
		<-lost
		if now, _ := leader.WatchLeader(); now.Leads {
			c.Errorf("still %+v", now)
		}
		c.net.Heal()
		other := c.leaderSeenBy(c.follower(leader))
		now, changed := other.WatchLeader()
		if !now.Leads || now.Term <= first.Term {
			c.Errorf("%+v after %+v", now, first)
		}
		c.must(other.Shutdown())
		<-changed
		if now, _ := other.WatchLeader(); now != (Leadership{}) {
			c.Errorf("after Shutdown %+v", now)
		}
	})
}

func TestShutdown(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		s := c.leaderSeenBy("s1")
		var calls sync.WaitGroup
		for i := range 20 {
			calls.Go(func() {
				result, err := s.Apply(c.Context(), put(fmt.Sprintf("web%d", i)))
				if err == nil && result.Refusal != command.Refusal_REFUSAL_NONE {
					c.Errorf("%v", result)
				}
				if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrNotLeader) {
					c.Errorf("%v", err)
				}
			})
		}
		c.must(s.Shutdown())
		c.must(s.Shutdown())
		calls.Wait()
		if _, err := s.Apply(c.Context(), put("late")); !errors.Is(err, ErrClosed) || errors.Is(err, ErrOutcomeUnknown) {
			c.Errorf("Apply: %v", err)
		}
		if _, err := s.Read(c.Context(), Linearizable); !errors.Is(err, ErrClosed) {
			c.Errorf("Read: %v", err)
		}
		if _, err := s.Read(c.Context(), Stale); err != nil {
			c.Errorf("a stale read: %v", err)
		}
	})
}

// A cut-off leader stops in no time, though its calls wait for others.
func TestShutdownWhenCutOff(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		s := c.leaderSeenBy("s1")
		c.isolate(s.config.ID)
		done := make(chan error, 1)
		go func() {
			_, err := s.Apply(context.Background(), put("lost"))
			done <- err
		}()
		start := time.Now()
		c.must(s.Shutdown())
		if took := time.Since(start); took > drainTimeout+transportTimeout {
			c.Errorf("Shutdown took %v", took)
		}
		if err := <-done; err == nil {
			c.Error("a write without a majority was acknowledged")
		}
	})
}
