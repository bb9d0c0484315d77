// Package raftlog keeps a server's Raft log, votes and commit index in one
// bbolt file.
package raftlog

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Two servers on one data directory would vote twice, so the second gets an
// error; a server that is just ending has this long to let go.
const lockTimeout = 2 * time.Second

// Options say where a log is.
type Options struct {
	// Path of the file, made when there is none.
	Path string
	// NoSync leaves out fsync: a power cut may lose entries and votes. For tests.
	NoSync bool
	// Written is called after each write that succeeded; nil is fine.
	Written func(Write)
	// CompactAbove is the size in bytes from which a file that is mostly free is
	// rewritten; 64 MiB.
	CompactAbove int64
	// Before is called before each write, with how many entries it appends, and
	// may hold it up or make it fail. For tests.
	Before func(entries int) error

	// For tests: how to open a file, what to do with one that was opened as a
	// database, and what to do at a compaction's steps.
	openFile func(string, int, os.FileMode) (*os.File, error)
	opened   func(name string, db *bbolt.DB)
	step     func(name string)
}

const defaultCompactAbove = 64 << 20

// A Log is safe for use by several goroutines.
type Log struct {
	options Options
	path    string
	staged  atomic.Uint64 // commit index to be written with the next entries
	cache   cache
	clock   clock
	space   space

	// Whoever uses db holds mu for reading; compaction holds it for writing to
	// put another file in its place. Whoever writes holds writing before mu, so
	// that nobody who reads waits behind a compaction that waits for a write.
	writing sync.Mutex
	mu      sync.RWMutex
	db      *bbolt.DB

	compaction compaction
	background sync.WaitGroup
	closing    chan struct{}
	closeOnce  sync.Once

	failOnce sync.Once
	failed   chan struct{}
	failure  error
}

var (
	_ raft.LogStore               = (*Log)(nil)
	_ raft.StableStore            = (*Log)(nil)
	_ raft.CommitTrackingLogStore = (*Log)(nil)
)

// Open opens the log, or makes an empty one. A damaged file gives a
// *CorruptError.
func Open(o Options) (*Log, error) {
	o.CompactAbove = cmp.Or(o.CompactAbove, defaultCompactAbove)
	if info, err := os.Stat(o.Path); errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		if err := create(o); err != nil {
			return nil, fmt.Errorf("making the Raft log %s: %w", o.Path, err)
		}
	}
	db, err := openDB(o)
	if err != nil {
		return nil, err
	}
	l := &Log{options: o, path: o.Path, db: db, failed: make(chan struct{}), closing: make(chan struct{})}
	if err := l.prepare(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	l.compactIfDue()
	return l, nil
}

func openDB(o Options) (*bbolt.DB, error) {
	if err := inspect(o.Path); err != nil {
		return nil, openError(o.Path, err)
	}
	db, file, err := openFile(o, o.Path)
	if err != nil {
		return nil, openError(o.Path, err)
	}
	if err := stillThere(o.Path, file); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// openFile opens a file under the name that it has now. Its errors will name
// o.Path, which it may get later.
func openFile(o Options, name string) (db *bbolt.DB, file *os.File, err error) {
	open := o.openFile
	if open == nil {
		open = os.OpenFile
	}
	err = guard(func() (err error) {
		db, err = bbolt.Open(name, 0o600, &bbolt.Options{
			Timeout: lockTimeout,
			// Removing entries from the front makes many free pages: a map
			// copes, and their list is found again by a scan at start rather
			// than written with every commit.
			FreelistType:   bbolt.FreelistMapType,
			NoFreelistSync: true,
			NoSync:         o.NoSync,
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				file, err = open(name, flag, mode)
				return file, err
			},
		})
		return err
	})
	if err == nil && o.opened != nil {
		o.opened(name, db)
	}
	return db, file, err
}

// stillThere makes sure that the file that was locked is the one that has the
// path. Whoever waited for the lock while the file was compacted got the old one.
func stillThere(path string, file *os.File) error {
	locked, err := file.Stat()
	if err != nil {
		return fmt.Errorf("opening the Raft log %s: %w", path, err)
	}
	if now, err := os.Stat(path); err != nil || !os.SameFile(locked, now) {
		return openError(path, bolterrors.ErrTimeout)
	}
	return nil
}

// inspect visits every page that is in use. Opened for writing, bbolt does the
// same in a goroutine of its own, where a damaged page ends the process.
func inspect(path string) error {
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		return nil // nothing there yet; what else is wrong, opening will say
	}
	return guard(func() error {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout})
		if err != nil {
			return err
		}
		defer db.Close()
		return db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
				return b.ForEach(func(_, _ []byte) error { return nil })
			})
		})
	})
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("another meshd server has %s open: stop it first, or give this server a data directory of its own", path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum),
		errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, errDamagedPage):
		return &CorruptError{Path: path, What: "the file", Reason: err.Error()}
	}
	return fmt.Errorf("opening the Raft log %s: %w", path, err)
}

// create makes an empty log. It gets its name when it is whole, so that a power
// cut leaves one that opens or none.
func create(o Options) error {
	tmp := o.Path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, _, err := openFile(Options{NoSync: o.NoSync}, tmp)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Update(makeBuckets), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, o.Path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(o.Path))
}

// prepare refuses a file of a format that is not known and removes what a
// compaction that was cut short left behind.
func (l *Log) prepare() error {
	format, err := l.getSealed(metaBucket, formatKey)
	if errors.Is(err, errNotFound) {
		return &CorruptError{Path: l.path, What: "the file", Reason: "it does not say which format it has"}
	}
	if err != nil {
		return err
	}
	if len(format) != 1 || format[0] != fileFormat {
		return fmt.Errorf("the Raft log %s has format %x, this version of meshd knows only format %02x: it was written by a newer one, so update this server", l.path, format, fileFormat)
	}
	if err := os.Remove(l.compactPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("clearing away an unfinished compaction of the Raft log: %w", err)
	}
	return nil
}

func makeBuckets(tx *bbolt.Tx) error {
	for _, name := range [][]byte{entryBucket, stableBucket, metaBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put(formatKey, seal(formatKey, []byte{fileFormat}))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Path is the log's file.
func (l *Log) Path() string { return l.path }

// Close ends a compaction, waits for transactions to end and lets go of the file.
func (l *Log) Close() error {
	l.closeOnce.Do(func() { close(l.closing) })
	l.background.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.db.Close(); err != nil {
		return fmt.Errorf("closing the Raft log %s: %w", l.path, err)
	}
	return nil
}
