package gossip

import (
	"context"
	"errors"
	"net"
	"sync"
)

const (
	// maxInbound is how many streams others may hold open; servers are few and
	// use one at a time.
	maxInbound = 32
	// maxStream is how much one may send in bytes: what all members of a pool
	// know of each other takes a small part of it.
	maxStream = 1 << 20
)

// streams are the open ones of a transport.
type streams struct {
	slots chan struct{} // one for each inbound stream

	mu     sync.Mutex
	open   map[*stream]struct{}
	closed bool
}

func newStreams() *streams {
	return &streams{slots: make(chan struct{}, maxInbound), open: map[*stream]struct{}{}}
}

// admit waits until one more may come in.
func (s *streams) admit(ctx context.Context) bool {
	select {
	case s.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *streams) release() { <-s.slots }

// add keeps a stream until it is closed, and then calls done.
func (s *streams) add(c net.Conn, done func()) *stream {
	one := &stream{Conn: c, of: s, left: maxStream, done: done}
	s.mu.Lock()
	s.open[one] = struct{}{}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		one.Close()
	}
	return one
}

func (s *streams) remove(one *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, one)
}

// close ends all streams, and at once those that are still added.
func (s *streams) close() {
	s.mu.Lock()
	s.closed = true
	var all []*stream
	for one := range s.open {
		all = append(all, one)
	}
	s.mu.Unlock()
	for _, one := range all {
		one.Close()
	}
}

// A stream is read by one goroutine, up to a limit.
type stream struct {
	net.Conn
	of   *streams
	left int
	done func()
	once sync.Once
}

var errTooLong = errors.New("a gossip stream is longer than any honest one")

func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, errTooLong
	}
	n, err := s.Conn.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

func (s *stream) Close() error {
	s.once.Do(func() { s.of.remove(s); s.done() })
	return s.Conn.Close()
}
