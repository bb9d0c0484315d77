package raftlog

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// ErrFull means that there is no room on disk for more entries. Nothing was
// written, and writing goes on when there is.
var ErrFull = errors.New("the disk is full")

const (
	// Room is looked for this often.
	probeInterval = time.Second
	// There is some when this much can be written.
	probeSize = 4 << 20
)

// space knows whether there was room for the newest write. Votes are written
// even if there was not: they go where something older was, and a server that
// could not store its term would have to end.
type space struct {
	mu     sync.Mutex
	full   error
	since  time.Time
	probed time.Time
}

func (s *space) ranOut(err error) error {
	err = fmt.Errorf("%w: %w", ErrFull, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full == nil {
		s.full, s.since, s.probed = err, time.Now(), time.Now()
	}
	return err
}

// Full tells since when there is no room, and the write that found none; nil when
// there is. It looks for room from time to time, when asked.
func (l *Log) Full() (since time.Time, err error) {
	err = l.checkSpace()
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	return l.space.since, err
}

// OutOfRoom is the newest answer to the same question.
func (l *Log) OutOfRoom() error {
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	return l.space.full
}

func (l *Log) checkSpace() error {
	l.space.mu.Lock()
	defer l.space.mu.Unlock()
	if l.space.full == nil || time.Since(l.space.probed) < probeInterval {
		return l.space.full
	}
	l.space.probed = time.Now()
	if l.probe() == nil {
		l.space.full, l.space.since = nil, time.Time{}
	}
	return l.space.full
}

// probe writes for a moment what would need room.
func (l *Log) probe() error {
	if l.options.Before != nil {
		if err := l.options.Before(1); err != nil {
			return err
		}
	}
	path := l.path + ".probe"
	err := os.WriteFile(path, make([]byte, probeSize), 0o600)
	return errors.Join(err, os.Remove(path))
}
