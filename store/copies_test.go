package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// copies takes a copy of a server's directory before each write to its log.
type copies struct {
	c     *cluster
	mu    sync.Mutex
	acked int // services that were acknowledged
	taken []copied
}

type copied struct {
	dir   string
	acked int
}

func (k *copies) before(int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	dir := filepath.Join(k.c.TempDir(), fmt.Sprint(len(k.taken)))
	k.c.must(copyLive(k.c.dirs["s1"], dir))
	k.taken = append(k.taken, copied{dir, k.acked})
	return nil
}

// copyLive copies files that may go away meanwhile, as Raft's old snapshots do.
func copyLive(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		b, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o600)
	})
}

// A copy of the directory made at any write opens and has every change that was
// acknowledged by then, with its log, snapshots, term and vote.
func TestEveryCopyOpens(t *testing.T) {
	bubble(t, 1, oftenSnapshots, func(c *cluster) {
		c.stop("s1")
		k := &copies{c: c}
		config := c.config("s1")
		config.beforeWrite = k.before
		s, err := Open(config)
		c.must(err)
		c.stores["s1"] = s
		c.leaderSeenBy("s1")
		for i := range 50 {
			c.write(s, fmt.Sprint("web", i))
			k.mu.Lock()
			k.acked = i + 1
			k.mu.Unlock()
			if i%10 == 9 {
				c.pass(150 * time.Millisecond) // for a snapshot
			}
		}
		c.stop("s1")
		if len(c.snapshots("s1")) == 0 {
			c.Error("no snapshot was taken, so this shows nothing of them")
		}
		for i, copied := range k.taken {
			contents, err := Inspect(copied.dir)
			c.must(err)
			if i%5 == 0 {
				c.opens(copied)
			}
			if contents.ClusterID != "c1" || contents.LastIndex < uint64(copied.acked) {
				c.Errorf("copy %d of %d changes: %+v", i, copied.acked, contents)
			}
		}
	})
}

func (c *cluster) opens(k copied) {
	c.Helper()
	c.dirs["s1"] = k.dir
	s := c.start("s1")
	c.leaderSeenBy("s1")
	index := c.write(s, "after").Index
	for i := range k.acked {
		c.sees("s1", index, fmt.Sprint("web", i))
	}
	c.stop("s1")
}

// What a power cut leaves of a snapshot that was being written is cleared away,
// and the one before is used.
func TestUnfinishedSnapshot(t *testing.T) {
	f := func(name string, spoil func(c *cluster, newest string)) {
		t.Run(name, func(t *testing.T) {
			timing := oftenSnapshots
			timing.TrailingLogs = 1000
			bubble(t, 1, timing, func(c *cluster) {
				var index uint64
				for i := range 2 {
					index = c.writeMany(c.stores["s1"], fmt.Sprintf("web%d-", i), 25)
					c.pass(time.Second)
				}
				c.stop("s1")
				all := c.snapshots("s1")
				spoil(c, all[len(all)-1])
				c.start("s1")
				c.leaderSeenBy("s1")
				c.sees("s1", index, "web0-0", "web1-24")
				left, err := filepath.Glob(filepath.Join(c.dirs["s1"], snapshotDir, "*"+unfinished))
				c.must(err)
				if len(left) > 0 {
					c.Errorf("%q was left", left)
				}
			})
		})
	}
	cut := func(file string, size int64) func(*cluster, string) {
		return func(c *cluster, newest string) {
			c.must(os.Truncate(filepath.Join(newest, file), size))
		}
	}
	f("not renamed", func(c *cluster, newest string) { c.must(os.Rename(newest, newest+unfinished)) })
	f("not renamed nor whole", func(c *cluster, newest string) {
		c.must(os.Truncate(filepath.Join(newest, "state.bin"), 7))
		c.must(os.Rename(newest, newest+unfinished))
	})
	f("empty state", cut("state.bin", 0))
	f("part of the state", cut("state.bin", 100))
	f("empty description", cut("meta.json", 0))
	f("no description", func(c *cluster, newest string) { c.must(os.Remove(filepath.Join(newest, "meta.json"))) })
}

// With no sound snapshot, and a log that begins after them, the store is not
// opened, and the error says what to do.
func TestNoSoundSnapshot(t *testing.T) {
	f := func(name string, spoil func(c *cluster, dir string)) {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, oftenSnapshots, func(c *cluster) {
				c.writeMany(c.stores["s1"], "web", 60)
				c.pass(time.Second)
				c.stop("s1")
				for _, dir := range c.snapshots("s1") {
					spoil(c, dir)
				}
				c.doesNotOpen("join it again", "backup")
			})
		})
	}
	f("state", func(c *cluster, dir string) { c.spoil(filepath.Join(dir, "state.bin")) })
	f("description", func(c *cluster, dir string) { c.must(os.Truncate(filepath.Join(dir, "meta.json"), 0)) })
	f("gone", func(c *cluster, dir string) { c.must(os.RemoveAll(dir)) })
}
