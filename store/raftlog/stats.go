package raftlog

import (
	"os"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// A Write is one transaction that is on disk.
type Write struct {
	// Entries is how many were appended; 0 for a vote or a removal.
	Entries int
	// Took is all of its time, Sync the part of it for writing pages and waiting
	// until the disk had them.
	Took, Sync time.Duration
}

// Stats describe the file and what became of it.
type Stats struct {
	// Size of the file, and how many of its bytes hold nothing.
	Size, Free int64
	// Compactions is how many there were since the log was opened.
	Compactions uint64
	// LastCompaction is how long the newest took, LastPause for how long of that
	// no entry could be written.
	LastCompaction, LastPause time.Duration
	// CompactionError says why the newest attempt failed, nil when it did not.
	CompactionError error
}

// Stats are those of this moment; all zero once the log is closed.
func (l *Log) Stats() Stats {
	s := l.compaction.stats()
	l.mu.RLock()
	defer l.mu.RUnlock()
	info, err := os.Stat(l.path)
	if err != nil {
		return s
	}
	used, err := usedBytes(l.db)
	if err != nil {
		return s
	}
	s.Size = info.Size()
	s.Free = max(0, s.Size-used)
	return s
}

// Compactions are the Stats but for the file's size, which no write holds up.
func (l *Log) Compactions() Stats { return l.compaction.stats() }

// usedBytes leaves out the pages that await use and the end of the file that
// has never been used.
func usedBytes(db *bbolt.DB) (used int64, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		used = tx.Size()
		return nil
	})
	stats := db.Stats()
	return used - int64(stats.FreePageN+stats.PendingPageN)*int64(db.Info().PageSize), err
}

// A clock knows since when writes are under way.
type clock struct {
	mu    sync.Mutex
	n     int
	begun map[int]time.Time
}

func (c *clock) begin() (done func() time.Duration) {
	start := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun == nil {
		c.begun = map[int]time.Time{}
	}
	c.n++
	n := c.n
	c.begun[n] = start
	return func() time.Duration {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.begun, n)
		return time.Since(start)
	}
}

// Stalled is for how long the oldest write has been under way, 0 when none is.
func (l *Log) Stalled() (longest time.Duration) {
	l.clock.mu.Lock()
	defer l.clock.mu.Unlock()
	for _, start := range l.clock.begun {
		longest = max(longest, time.Since(start))
	}
	return longest
}
