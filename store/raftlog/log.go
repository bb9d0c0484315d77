// Package raftlog keeps a server's Raft log, votes and commit index in one
// bbolt file.
package raftlog

import (
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

	openFile func(string, int, os.FileMode) (*os.File, error) // for tests
}

// A Log is safe for use by several goroutines.
type Log struct {
	path   string
	db     *bbolt.DB
	staged atomic.Uint64 // commit index to be written with the next entries

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
	_, statErr := os.Stat(o.Path)
	db, err := openDB(o)
	if err != nil {
		return nil, err
	}
	l := &Log{path: o.Path, db: db, failed: make(chan struct{})}
	if err := l.prepare(errors.Is(statErr, os.ErrNotExist)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return l, nil
}

func openDB(o Options) (db *bbolt.DB, err error) {
	if err := inspect(o.Path); err != nil {
		return nil, openError(o.Path, err)
	}
	err = guard(func() (err error) {
		db, err = bbolt.Open(o.Path, 0o600, &bbolt.Options{
			Timeout: lockTimeout,
			// Removing entries from the front makes many free pages: a map
			// copes, and their list is found again by a scan at start rather
			// than written with every commit.
			FreelistType:   bbolt.FreelistMapType,
			NoFreelistSync: true,
			NoSync:         o.NoSync,
			OpenFile:       o.openFile,
		})
		return err
	})
	if err != nil {
		return nil, openError(o.Path, err)
	}
	return db, nil
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

// prepare makes a new file complete and durable, and refuses one of a format
// that is not known.
func (l *Log) prepare(created bool) error {
	if created {
		if err := syncDir(filepath.Dir(l.path)); err != nil {
			return fmt.Errorf("making the Raft log %s durable: %w", l.path, err)
		}
	}
	format, err := l.getSealed(metaBucket, formatKey)
	if errors.Is(err, errNotFound) {
		return l.create()
	}
	if err != nil {
		return err
	}
	if len(format) != 1 || format[0] != fileFormat {
		return fmt.Errorf("the Raft log %s has format %x, this version of meshd knows only format %02x: it was written by a newer one, so update this server", l.path, format, fileFormat)
	}
	return nil
}

func (l *Log) create() error {
	return l.update("preparing the Raft log", func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{entryBucket, stableBucket, metaBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return tx.Bucket(metaBucket).Put(formatKey, seal(formatKey, []byte{fileFormat}))
	})
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

// Close waits for transactions to end and lets go of the file.
func (l *Log) Close() error {
	if err := l.db.Close(); err != nil {
		return fmt.Errorf("closing the Raft log %s: %w", l.path, err)
	}
	return nil
}
