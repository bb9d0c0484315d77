package raftlog

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const fileFormat = 1

var (
	entryBucket  = []byte("entries") // index -> entry
	stableBucket = []byte("stable")  // Raft's own keys -> sealed value
	metaBucket   = []byte("meta")

	formatKey = []byte("format")
	commitKey = []byte("commit")
)

var (
	errNotFound    = errors.New("not found") // Raft compares the text
	errDamagedPage = errors.New("a page cannot be read")
)

// ErrClosed is the error of every use of a closed log.
var ErrClosed = errors.New("the Raft log is closed")

// A CorruptError reports that the file does not hold what was written to it.
// Nothing of a damaged log is used: a server that forgot an entry or a vote
// could undo what a majority has acknowledged.
type CorruptError struct {
	Path   string
	What   string // such as "log entry 42"
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("the Raft log %s is damaged: %s: %s. %s", e.Path, e.What, e.Reason, Remedy)
}

// Remedy is what to do about a server whose disk does not hold what it did.
const Remedy = "Where other servers are left, remove this one from the mesh, delete its data directory and join it again: they hold what it lost. The only server of a mesh needs a backup"

// view runs fn in a transaction that reads.
func (l *Log) view(what string, fn func(*bbolt.Tx) error) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	err := guard(func() error { return l.db.View(fn) })
	switch {
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return ErrClosed
	case errors.Is(err, errDamagedPage):
		return &CorruptError{Path: l.path, What: what, Reason: err.Error()}
	}
	return err
}

// guard turns what bbolt does on meeting a damaged page, a panic or a fault in
// its memory map, into an error.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamagedPage, p)
		}
	}()
	return fn()
}

// A change is what a transaction did to the entries.
type change struct {
	appended int
	from     uint64 // no entry before it was touched
}

// noEntries is for transactions that touch none.
func noEntries() *change { return &change{from: math.MaxUint64} }

func (c *change) touch(index uint64) { c.from = min(c.from, index) }

// update runs fn, which fills in c, in a transaction that writes. When it
// returns nil the changes are on disk.
func (l *Log) update(doing string, c *change, fn func(*bbolt.Tx) error) error {
	if err := l.Err(); err != nil {
		return err
	}
	done := l.clock.begin()
	sync, err := l.write(c, fn)
	took := done()
	switch {
	case err == nil:
		if l.options.Written != nil {
			l.options.Written(Write{Entries: c.appended, Took: took, Sync: sync})
		}
		return nil
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return ErrClosed
	}
	err = fmt.Errorf("%s in %s: %w", doing, l.path, err)
	if !passing(err) {
		l.fail(err)
		return err
	}
	return l.space.ranOut(err)
}

// write also tells how long writing pages and waiting for the disk took.
func (l *Log) write(c *change, fn func(*bbolt.Tx) error) (sync time.Duration, err error) {
	if l.options.Before != nil {
		if err := l.options.Before(c.appended); err != nil {
			return 0, err
		}
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.RLock()
	defer l.mu.RUnlock()
	var tx *bbolt.Tx
	err = l.db.Update(func(t *bbolt.Tx) error {
		tx = t
		return fn(t)
	})
	if err != nil {
		return 0, err
	}
	l.compaction.changed(c.from)
	stats := tx.Stats()
	return stats.GetWriteTime(), nil
}

// passing tells a disk that is full from one that fails. Refused for want of
// space, a write has touched nothing that the file's root refers to and may be
// tried again. After anything else, a failed fsync above all, the kernel may
// have dropped the pages and would report success for a repeat.
func passing(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path) && path.Op == "write" &&
		(errors.Is(path.Err, syscall.ENOSPC) || errors.Is(path.Err, syscall.EDQUOT))
}

func (l *Log) fail(err error) {
	l.failOnce.Do(func() {
		l.failure = err
		close(l.failed)
	})
}

// Failed is closed when a write has failed for good. From then on every write
// is refused with the error that Err gives; only a new process, which reads
// from the disk what is truly there, may go on.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Err is the failure that closed Failed, nil before.
func (l *Log) Err() error {
	select {
	case <-l.failed:
		return l.failure
	default:
		return nil
	}
}
