package raftlog

import (
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// Removing takes this many entries a transaction, so that appends, which wait
// for it, do not wait long.
const removeBatch = 1024

// Entries come in order and are never split, so pages are filled nearly up.
const fillPercent = 0.95

// FirstIndex is the index of the oldest entry, 0 when there is none.
func (l *Log) FirstIndex() (uint64, error) {
	return l.edge((*bbolt.Cursor).First)
}

// LastIndex is the index of the newest entry, 0 when there is none.
func (l *Log) LastIndex() (uint64, error) {
	return l.edge((*bbolt.Cursor).Last)
}

func (l *Log) edge(seek func(*bbolt.Cursor) (k, v []byte)) (index uint64, err error) {
	err = l.view("the index of entries", func(tx *bbolt.Tx) error {
		index = edgeOf(tx, seek)
		return nil
	})
	return index, err
}

func edgeOf(tx *bbolt.Tx, seek func(*bbolt.Cursor) (k, v []byte)) uint64 {
	if k, _ := seek(tx.Bucket(entryBucket).Cursor()); k != nil {
		return indexOf(k)
	}
	return 0
}

func indexOf(key []byte) uint64 { return binary.BigEndian.Uint64(key) }

// GetLog reads the entry with that index into e. The error is
// raft.ErrLogNotFound when there is none, a *CorruptError when it is damaged.
func (l *Log) GetLog(index uint64, e *raft.Log) error {
	if l.cache.get(index, e) {
		return nil
	}
	what := fmt.Sprintf("log entry %d", index)
	return l.view(what, func(tx *bbolt.Tx) error {
		b := tx.Bucket(entryBucket).Get(key(index))
		if b == nil {
			return raft.ErrLogNotFound
		}
		if err := decodeEntry(b, index, e); err != nil {
			return &CorruptError{Path: l.path, What: what, Reason: err.Error()}
		}
		return nil
	})
}

// StoreLog appends one entry.
func (l *Log) StoreLog(e *raft.Log) error {
	return l.StoreLogs([]*raft.Log{e})
}

// StoreLogs appends entries, all or none, together with the commit index that
// was staged last. Gaps between indexes are allowed. The entries must not be
// changed afterwards. While the disk is full the error is an ErrFull.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	if err := l.checkSpace(); err != nil {
		return err
	}
	c := noEntries()
	c.appended = len(entries)
	err := l.update("appending to the Raft log", c, func(tx *bbolt.Tx) error {
		b := tx.Bucket(entryBucket)
		b.FillPercent = fillPercent
		for _, e := range entries {
			if err := b.Put(key(e.Index), encodeEntry(e)); err != nil {
				return fmt.Errorf("entry %d: %w", e.Index, err)
			}
			c.touch(e.Index)
		}
		return l.putCommit(tx)
	})
	if err == nil {
		l.cache.put(entries)
	}
	return err
}

// DeleteRange removes the entries from min to max, both included. Should it be
// cut short, what is left has no hole that was not there before: a range at the
// end is removed from its end, any other from its beginning.
func (l *Log) DeleteRange(min, max uint64) error {
	l.cache.clear()
	defer l.compactIfDue()
	for {
		more, err := l.removeSome(min, max)
		if err != nil || !more {
			return err
		}
	}
}

// removeSome removes up to removeBatch entries and tells whether some may be
// left.
func (l *Log) removeSome(min, max uint64) (more bool, err error) {
	c := noEntries()
	err = l.update("removing from the Raft log", c, func(tx *bbolt.Tx) error {
		keys := someKeys(tx, min, max)
		front := len(keys) > 0 && edgeOf(tx, (*bbolt.Cursor).First) == indexOf(keys[0])
		for _, k := range keys {
			if err := tx.Bucket(entryBucket).Delete(k); err != nil {
				return err
			}
			if !front {
				c.touch(indexOf(k))
			}
		}
		more = len(keys) == removeBatch
		return nil
	})
	return more, err
}

// someKeys lists keys from min to max in the order of their removal. A cursor
// loses its place when an entry is removed under it, hence the list.
func someKeys(tx *bbolt.Tx, min, max uint64) (keys [][]byte) {
	c := tx.Bucket(entryBucket).Cursor()
	within := func(k []byte) bool {
		return k != nil && len(keys) < removeBatch && indexOf(k) >= min && indexOf(k) <= max
	}
	if edgeOf(tx, (*bbolt.Cursor).Last) <= max {
		for k, _ := c.Last(); within(k); k, _ = c.Prev() {
			keys = append(keys, clone(k))
		}
		return keys
	}
	for k, _ := c.Seek(key(min)); within(k); k, _ = c.Next() {
		keys = append(keys, clone(k))
	}
	return keys
}
