package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/raftlog"
	"github.com/meshd/meshd/store/state"
)

// oftenSnapshots makes snapshots so often, and keeps so few entries, that a
// server that is behind needs one.
var oftenSnapshots = Timing{SnapshotInterval: 100 * time.Millisecond, SnapshotThreshold: 20, TrailingLogs: 5}

func (c *cluster) snapshots(id string) []string {
	dirs, err := filepath.Glob(filepath.Join(c.dirs[id], "snapshots", "*-*-*"))
	c.must(err)
	return dirs
}

func (c *cluster) writeMany(s *Store, prefix string, n int) (index uint64) {
	for i := range n {
		index = c.write(s, fmt.Sprintf("%s%d", prefix, i)).Index
	}
	return index
}

// A server that was away for longer than the log reaches back gets a snapshot.
func TestSnapshotIsSentToWhoLagsBehind(t *testing.T) {
	bubble(t, 3, oftenSnapshots, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		away := c.follower(leader)
		c.isolate(away)
		index := c.writeMany(leader, "web", 60)
		c.pass(time.Second) // snapshots are taken meanwhile
		if first, err := leader.log.FirstIndex(); err != nil || first < 20 {
			c.Fatalf("the leader's log still begins at %d (%v)", first, err)
		}
		watched, err := c.stores[away].Read(c.Context(), Stale)
		c.must(err)
		var ws state.WatchSet
		watched.Service(&ws, "web59")
		c.net.Heal()
		c.must(ws.Wait(c.Context()))
		c.sees(away, index, "web0", "web59")
		c.sees(away, c.write(c.leaderSeenBy(away), "more").Index, "more")
		if len(c.snapshots(away)) == 0 {
			c.Error("no snapshot was installed, so this shows nothing")
		}
	})
}

func TestRestartFromSnapshot(t *testing.T) {
	bubble(t, 1, oftenSnapshots, func(c *cluster) {
		c.writeMany(c.stores["s1"], "web", 60)
		c.pass(time.Second)
		index := c.writeMany(c.stores["s1"], "more", 3)
		if n := len(c.snapshots("s1")); n == 0 || n > retainSnapshots {
			c.Fatalf("there are %d snapshots", n)
		}
		c.stop("s1")
		c.start("s1")
		c.leaderSeenBy("s1")
		c.sees("s1", index, "web0", "web59", "more0", "more2")
	})
}

// With its newest snapshot damaged a server starts from the one before and the
// log, which reaches back far enough.
func TestDamagedSnapshotFallsBack(t *testing.T) {
	timing := oftenSnapshots
	timing.TrailingLogs = 1000
	bubble(t, 1, timing, func(c *cluster) {
		var index uint64
		for i := range 3 {
			index = c.writeMany(c.stores["s1"], fmt.Sprintf("web%d-", i), 25)
			c.pass(time.Second)
		}
		c.stop("s1")
		all := c.snapshots("s1")
		if len(all) != 2 {
			c.Fatalf("there are %d snapshots", len(all))
		}
		c.spoil(filepath.Join(all[len(all)-1], "state.bin"))
		c.start("s1")
		c.leaderSeenBy("s1")
		c.sees("s1", index, "web0-0", "web2-24")
	})
}

// spoil flips a bit in the middle of a file.
func (c *cluster) spoil(path string) {
	b, err := os.ReadFile(path)
	c.must(err)
	b[len(b)/2] ^= 1
	c.must(os.WriteFile(path, b, 0o600))
}

// doesNotOpen checks that a store does not open on what s1 has, with an error that
// says why.
func (c *cluster) doesNotOpen(want ...string) {
	c.Helper()
	config := c.config("s1")
	s, err := Open(config)
	if err == nil {
		s.Shutdown()
		c.Fatal("the store was opened")
	}
	for _, w := range append(want, config.Dir) {
		if !strings.Contains(err.Error(), w) {
			c.Errorf("%q is not in the error: %v", w, err)
		}
	}
}

// A damaged log is an error when the store is opened, and no panic later.
func TestDamagedLogIsRefused(t *testing.T) {
	f := func(name string, damage func(c *cluster, path string), want ...string) {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, Timing{}, func(c *cluster) {
				c.writeMany(c.stores["s1"], "web-", 10)
				c.stop("s1")
				damage(c, filepath.Join(c.dirs["s1"], logFile))
				c.doesNotOpen(append(want, "join it again", "backup")...)
			})
		})
	}
	change := func(name string) func(*cluster, string) {
		return func(c *cluster, path string) {
			b, err := os.ReadFile(path)
			c.must(err)
			c.must(os.WriteFile(path, bytes.ReplaceAll(b, []byte(name), bytes.ToUpper([]byte(name))), 0o600))
		}
	}
	remove := func(index uint64) func(*cluster, string) {
		return func(c *cluster, path string) {
			log, err := raftlog.Open(raftlog.Options{Path: path, NoSync: true})
			c.must(err)
			c.must(log.DeleteRange(index, index))
			c.must(log.Close())
		}
	}
	f("early entry", change("web-3"), "log entry", "damaged")
	f("last entry", change("web-9"), "log entry", "damaged")
	f("missing entry", remove(3), "log entry 3", "missing")
	f("missing beginning", remove(1), "log entry 1", "missing")
}

// An entry that a newer version wrote changes nothing, is answered and logged,
// and does not stop what comes after it.
func TestUnknownEntry(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		f := func(entry []byte, want string) {
			t.Helper()
			future := leader.raft.Apply(entry, 0)
			c.must(future.Error())
			result := future.Response().(*command.Result)
			if result.Refusal != command.Refusal_REFUSAL_UNKNOWN_ENTRY || !strings.Contains(result.Message, want) || result.Index != future.Index() {
				c.Errorf("%x: %v", entry, result)
			}
		}
		f([]byte{1, 99, 99, 1, 2, 3}, "type 25443")
		f([]byte{2, 0, 1}, "format 2")
		f([]byte{1, 0, 4, 0xff}, "decoding")
		f(nil, "header")
		index := c.write(leader, "web").Index
		var want bytes.Buffer
		for id := range c.stores {
			c.sees(id, index, "web")
			var got bytes.Buffer
			_, err := c.stores[id].db.Snapshot().WriteTo(&got)
			c.must(err)
			if want.Len() > 0 && !bytes.Equal(want.Bytes(), got.Bytes()) {
				c.Errorf("the state of %s differs", id)
			}
			want = got
		}
	})
}
