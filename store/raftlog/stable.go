package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// Set stores one of Raft's own values: its term and its vote.
func (l *Log) Set(key, value []byte) error {
	return l.update(fmt.Sprintf("storing Raft's %s", key), noEntries(), func(tx *bbolt.Tx) error {
		return tx.Bucket(stableBucket).Put(key, seal(key, value))
	})
}

// Get gives the value of that key. The error's text is "not found" when there
// is none.
func (l *Log) Get(key []byte) ([]byte, error) {
	return l.getSealed(stableBucket, key)
}

// SetUint64 is Set for a number.
func (l *Log) SetUint64(key []byte, value uint64) error {
	return l.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 is Get for a number.
func (l *Log) GetUint64(key []byte) (uint64, error) {
	return l.getNumber(stableBucket, key)
}

func (l *Log) getNumber(bucket, key []byte) (uint64, error) {
	b, err := l.getSealed(bucket, key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, &CorruptError{Path: l.path, What: fmt.Sprintf("Raft's %s", key), Reason: fmt.Sprintf("it has %d bytes in place of 8", len(b))}
	}
	return binary.BigEndian.Uint64(b), nil
}

// getSealed reads a value with its checksum from any bucket but the entries'.
func (l *Log) getSealed(bucket, key []byte) (value []byte, err error) {
	what := fmt.Sprintf("Raft's %s", key)
	err = l.view(what, func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		if b == nil {
			return errNotFound
		}
		sealed := b.Get(key)
		if sealed == nil {
			return errNotFound
		}
		if value, err = unseal(key, sealed); err != nil {
			return &CorruptError{Path: l.path, What: what, Reason: err.Error()}
		}
		return nil
	})
	return value, err
}

// StageCommitIndex remembers how far the log is known to be committed, to be
// written with the next entries and never alone: it costs no fsync of its own.
func (l *Log) StageCommitIndex(index uint64) error {
	l.staged.Store(index)
	return nil
}

func (l *Log) putCommit(tx *bbolt.Tx) error {
	index := l.staged.Load()
	if index == 0 {
		return nil
	}
	return tx.Bucket(metaBucket).Put(commitKey, seal(commitKey, binary.BigEndian.AppendUint64(nil, index)))
}

// GetCommitIndex is the commit index that was written with the newest entries,
// and never above the last of them. It is 0 when none is known.
func (l *Log) GetCommitIndex() (uint64, error) {
	index, err := l.getNumber(metaBucket, commitKey)
	if errors.Is(err, errNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	last, err := l.LastIndex()
	return min(index, last), err
}
