package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A fault is what is the matter with a server's disk.
type fault struct {
	mu    sync.Mutex
	full  bool
	delay time.Duration
}

func (f *fault) before(entries int) error {
	f.mu.Lock()
	full, delay := f.full, f.delay
	f.mu.Unlock()
	if full && entries > 0 {
		return &fs.PathError{Op: "write", Path: "raft.db", Err: syscall.ENOSPC}
	}
	if delay > 0 {
		<-time.After(delay)
	}
	return nil
}

func (f *fault) set(full bool, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full, f.delay = full, delay
}

// awaitProblem waits until a server has that problem, or none with "".
func (c *cluster) awaitProblem(s *Store, kind ProblemKind) *Problem {
	c.Helper()
	for range 1000 {
		p := s.Problem()
		if p == nil && kind == "" || p != nil && p.Kind == kind {
			return p
		}
		c.pass(diskInterval / 5)
	}
	c.Fatalf("server %s has the problem %v, not %q", s.config.ID, s.Problem(), kind)
	return nil
}

// A leader whose disk is full makes way, says so, and is back in line when there
// is room.
func TestLeadersDiskIsFull(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		old := c.leaderSeenBy("s1")
		id := old.config.ID
		c.write(old, "before")
		c.faults[id].set(true, 0)
		_, err := old.Apply(c.Context(), put("refused"))
		if !errors.Is(err, ErrNotLeader) || errors.Is(err, ErrOutcomeUnknown) || !strings.Contains(err.Error(), "the disk is full") || !strings.Contains(err.Error(), old.log.Path()) {
			c.Errorf("a write to a full disk: %v", err)
		}
		c.writeVia(c.follower(old), "after", id)
		p := c.awaitProblem(old, DiskFull)
		if !strings.Contains(p.Message, old.log.Path()) || !strings.Contains(p.Message, "make room") || time.Since(p.Since) > time.Minute {
			c.Errorf("%+v", p)
		}
		term := c.stores[c.follower(old)].Stats().Term
		c.pass(15 * time.Second)
		if old.IsLeader() || c.stores[c.follower(old)].Stats().Term != term {
			c.Error("a server with a full disk disturbs the others")
		}
		if old.Err() != nil {
			c.Errorf("a full disk counts as broken: %v", old.Err())
		}
		index := c.writeVia(c.follower(old), "meanwhile", id).Index
		c.faults[id].set(false, 0)
		c.sees(id, index, "before", "after", "meanwhile")
		c.awaitProblem(old, "")
		c.must(c.leaderSeenBy(id, id).TransferLeadership(c.Context(), id))
		c.writeVia(id, "again")
		for _, s := range c.stores {
			if s.db.Read().Service(nil, "refused") != nil {
				c.Errorf("server %s has what was refused", s.config.ID)
			}
		}
	})
}

// When no server has room, none can write, and all go on when they have.
func TestAllDisksAreFull(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			bubble(t, n, Timing{}, func(c *cluster) {
				leader := c.leaderSeenBy("s1")
				c.write(leader, "before")
				for _, f := range c.faults {
					f.set(true, 0)
				}
				if _, err := leader.Apply(c.Context(), put("refused")); !errors.Is(err, ErrNotLeader) {
					c.Errorf("%v", err)
				}
				c.pass(15 * time.Second)
				var notLeader *NotLeaderError
				if _, err := leader.Apply(c.Context(), put("refused")); !errors.As(err, &notLeader) || notLeader.Cause == nil {
					c.Errorf("later: %v", err)
				}
				if txn, err := leader.Read(c.Context(), Stale); err != nil || txn.Service(nil, "before") == nil {
					c.Errorf("a stale read: %v", err)
				}
				for _, f := range c.faults {
					f.set(false, 0)
				}
				index := c.writeVia("s1", "after").Index
				for id, s := range c.stores {
					c.sees(id, index, "before", "after")
					c.awaitProblem(s, "")
				}
			})
		})
	}
}

// A leader whose write hangs does not lead on by its heartbeats alone.
func TestStalledDisk(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		old := c.leaderSeenBy("s1")
		id := old.config.ID
		c.write(old, "before")
		c.faults[id].set(false, 20*time.Second)
		start := time.Now()
		done := make(chan error, 1)
		go func() {
			_, err := old.Apply(c.Context(), put("hangs"))
			done <- err
		}()
		index := c.writeVia(c.follower(old), "after", id).Index
		if gap := time.Since(start); gap > stallLimit+5*time.Second {
			c.Errorf("no write for %v", gap)
		}
		if p := c.awaitProblem(old, DiskSlow); !strings.Contains(p.Message, old.log.Path()) {
			c.Errorf("%+v", p)
		}
		ctx, cancel := context.WithTimeout(c.Context(), 5*time.Second)
		defer cancel()
		if _, err := old.Read(ctx, Linearizable); err == nil {
			c.Error("a leader that was replaced answers a consistent read")
		}
		c.faults[id].set(false, 0)
		if err := <-done; err == nil || !errors.Is(err, ErrOutcomeUnknown) {
			c.Errorf("the write that hung: %v", err)
		}
		c.sees(id, index, "before", "after")
		c.awaitProblem(old, "")
	})
}

// A leader whose writes take seconds hands over to one that does better.
func TestSlowDisk(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		slow := c.leaderSeenBy("s1")
		id := slow.config.ID
		c.write(slow, "before")
		c.faults[id].set(false, 2*time.Second)
		for i := range slowWrites {
			c.write(slow, fmt.Sprint("slow", i))
		}
		leader := c.leaderSeenBy(c.follower(slow), id)
		start := time.Now()
		index := c.write(leader, "fast").Index
		if took := time.Since(start); took > slowLimit {
			c.Errorf("with another leader a write takes %v", took)
		}
		c.pass(15 * time.Second)
		c.sees(id, index, "before", "slow0", "fast")
		if slow.IsLeader() {
			c.Error("the slow server leads again")
		}
	})
}

// When all disks are slow another leader would do no better.
func TestAllDisksAreSlow(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		c.write(leader, "before")
		for _, f := range c.faults {
			f.set(false, 2*time.Second)
		}
		before := leader.Stats().Term
		for i := range 2 * slowWrites {
			c.write(leader, fmt.Sprint("web", i))
		}
		c.awaitProblem(leader, DiskSlow)
		if !leader.IsLeader() || leader.Stats().Term != before {
			c.Error("the leader gave way to one that is as slow")
		}
	})
}

// What hampers a server is in its metrics, as is what the log does.
func TestDiskMetrics(t *testing.T) {
	bubble(t, 1, Timing{}, func(c *cluster) {
		c.stop("s1")
		registry := prometheus.NewPedanticRegistry()
		config := c.config("s1")
		config.Metrics = registry
		s, err := Open(config)
		c.must(err)
		c.stores["s1"] = s
		c.leaderSeenBy("s1")
		c.write(s, "web")
		for _, name := range []string{"log_append_seconds", "log_sync_seconds", "log_batch_entries", "log_size_bytes"} {
			if got := metric(c, registry, "meshd_raft_"+name); got <= 0 {
				c.Errorf("%s is %v", name, got)
			}
		}
		for name, want := range map[string]float64{"log_compactions_total": 0, "log_last_compaction_seconds": 0} {
			if got := metric(c, registry, "meshd_raft_"+name); got != want {
				c.Errorf("%s is %v", name, got)
			}
		}
		c.faults["s1"].set(true, 0)
		_, _ = s.Apply(c.Context(), put("refused"))
		c.awaitProblem(s, DiskFull)
		if got := problemMetric(c, registry, DiskFull); got != 1 {
			c.Errorf("a full disk shows as %v", got)
		}
		if got := problemMetric(c, registry, DiskSlow); got != 0 {
			c.Errorf("a full disk shows as a slow one: %v", got)
		}
	})
}

func problemMetric(c *cluster, registry prometheus.Gatherer, kind ProblemKind) float64 {
	families, err := registry.Gather()
	c.must(err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "meshd_raft_problem" && m.GetLabel()[0].GetValue() == string(kind) {
				return m.GetGauge().GetValue()
			}
		}
	}
	return -1
}
