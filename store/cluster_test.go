package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

func TestThreeServers(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		result := c.write(leader, "web")
		for id := range c.stores {
			c.sees(id, result.Index, "web")
		}
		follower := c.stores[c.follower(leader)]
		_, err := follower.Apply(c.Context(), put("other"))
		var notLeader *NotLeaderError
		if !errors.As(err, &notLeader) || !errors.Is(err, ErrNotLeader) || notLeader.ID != leader.config.ID || notLeader.Address != leader.config.Address {
			c.Errorf("Apply on a follower: %v", err)
		}
		if _, err := follower.Read(c.Context(), Linearizable); !errors.Is(err, ErrNotLeader) {
			c.Errorf("a linearizable read on a follower: %v", err)
		}
		if err := follower.Bootstrap(); !errors.Is(err, ErrBootstrapped) {
			c.Errorf("Bootstrap of a member: %v", err)
		}
		if err := follower.Barrier(c.Context()); !errors.Is(err, ErrNotLeader) {
			c.Errorf("Barrier on a follower: %v", err)
		}
	})
}

func TestRefusalIsAResult(t *testing.T) {
	bubble(t, 1, Timing{}, func(c *cluster) {
		result, err := c.stores["s1"].Apply(c.Context(), &command.RemoveToken{Id: "none"})
		c.must(err)
		if result.Refusal != command.Refusal_REFUSAL_NOT_FOUND || result.Index == 0 {
			c.Errorf("%v", result)
		}
		if _, err := c.stores["s1"].Apply(c.Context(), &apiv1.Node{}); err == nil {
			c.Error("what is no command was applied")
		}
		large := put("large")
		large.Put[0].GetService().Balance = &apiv1.Balance{Policy: string(make([]byte, maxEntry))}
		if _, err := c.stores["s1"].Apply(c.Context(), large); !errors.Is(err, ErrTooLarge) {
			c.Errorf("a large change: %v", err)
		}
	})
}

// When the leader is cut off, the others soon have a new one, and the old one
// neither acknowledges nor answers.
func TestLeaderLost(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		old := c.leaderSeenBy("s1")
		c.write(old, "before")
		start := time.Now()
		c.isolate(old.config.ID)

		done := make(chan error, 1)
		go func() {
			_, err := old.Apply(c.Context(), put("lost"))
			done <- err
		}()
		if _, err := old.Read(c.Context(), Linearizable); !errors.Is(err, ErrNotLeader) {
			c.Errorf("the deposed leader answered: %v", err)
		}
		if err := <-done; !errors.Is(err, ErrOutcomeUnknown) {
			c.Errorf("the deposed leader's write: %v", err)
		}
		index := c.writeVia(c.follower(old), "after", old.config.ID).Index
		if gap := time.Since(start); gap > 6*time.Second {
			c.Errorf("no write for %v", gap)
		}
		if old.IsLeader() {
			c.Error("there are two leaders")
		}
		txn, err := old.Read(c.Context(), Stale)
		c.must(err)
		if txn.Service(nil, "after") != nil {
			c.Error("the network is not cut")
		}
		c.net.Heal()
		c.sees(old.config.ID, index, "before", "after")
	})
}

func TestLinearizableReads(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		for i := range 20 {
			name := fmt.Sprintf("web%d", i)
			c.write(leader, name)
			txn, err := leader.Read(c.Context(), Linearizable)
			c.must(err)
			if txn.Service(nil, name) == nil {
				c.Fatalf("a read does not show %q", name)
			}
			index, err := leader.ReadIndex(c.Context())
			c.must(err)
			c.sees(c.follower(leader), index, name)
		}
		// The newest entries are no commands, and are not waited for.
		c.must(leader.Barrier(c.Context()))
		c.must(leader.AddVoter(c.Context(), leader.config.ID, leader.config.Address))
		_, err := leader.Read(c.Context(), Linearizable)
		c.must(err)
	})
}

// A new leader's first read shows what its predecessor has acknowledged.
func TestReadAfterHandover(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		for i := range 5 {
			leader := c.leaderSeenBy("s1")
			c.write(leader, fmt.Sprintf("web%d", i))
			start := time.Now()
			c.must(leader.TransferLeadership(c.Context(), c.follower(leader)))
			next := c.leaderSeenBy("s1", leader.config.ID)
			if gap := time.Since(start); gap > 300*time.Millisecond {
				c.Errorf("handing over took %v", gap)
			}
			txn, err := next.Read(c.Context(), Linearizable)
			c.must(err)
			if txn.Service(nil, fmt.Sprintf("web%d", i)) == nil {
				c.Fatalf("a new leader does not know web%d", i)
			}
		}
	})
}

func TestAllStopAndStartAgain(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		var index uint64
		var names []string
		for i := range 30 {
			names = append(names, fmt.Sprintf("web%d", i))
			index = c.write(c.leaderSeenBy("s1"), names[i]).Index
		}
		c.stopAll()
		for id := range c.dirs {
			c.start(id)
		}
		leader := c.leaderSeenBy("s1")
		for id := range c.stores {
			c.sees(id, index, names...)
		}
		c.write(leader, "more")
	})
}

// Killed at one moment, the servers have on disk what they acknowledged.
func TestAllAreKilled(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		var index uint64
		for i := range 10 {
			index = c.write(leader, fmt.Sprintf("web%d", i)).Index
		}
		synctest.Wait()
		copies := map[string]string{}
		for id, dir := range c.dirs {
			copies[id] = filepath.Join(c.TempDir(), id)
			c.must(os.CopyFS(copies[id], os.DirFS(dir)))
		}
		c.stopAll()
		c.dirs = copies
		for id := range c.dirs {
			c.start(id)
		}
		leader = c.leaderSeenBy("s1")
		c.sees(leader.config.ID, index, "web0", "web9")
	})
}

// Alone, a server shows what it knows to be committed, so that agents that are
// left with it do not go back in time.
func TestAloneAfterRestart(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		index := c.write(leader, "web").Index
		c.write(leader, "later") // tells the followers that the one before is committed
		id := c.follower(leader)
		c.sees(id, index)
		c.stopAll()
		s := c.start(id)
		txn, err := s.Read(c.Context(), Stale)
		c.must(err)
		if txn.Index(nil) < index || txn.Service(nil, "web") == nil {
			c.Errorf("alone, the server is at index %d and was at %d", txn.Index(nil), index)
		}
		members, err := s.Servers()
		c.must(err)
		if len(members) != 3 {
			c.Errorf("alone, the server knows the members %v", members)
		}
	})
}

// Far more entries are replayed than Raft itself could.
func TestLongReplay(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 9,000 entries")
	}
	bubble(t, 1, Timing{}, func(c *cluster) {
		s := c.stores["s1"]
		var last *command.Result
		for range 9000 {
			last = c.apply(s, &command.SetResources{})
		}
		c.stop("s1")
		s = c.start("s1")
		if at := s.db.Read().Index(nil); at < last.Index-1 {
			c.Errorf("started at index %d of %d", at, last.Index)
		}
		c.write(c.leaderSeenBy("s1"), "web")
	})
}
