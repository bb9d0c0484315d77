package http1

import (
	"net"
	"sync"
	"testing"
	"time"
)

// A raced is a connection on which a request arrives at the very moment when
// Drain ends the wait for it.
type raced struct {
	net.Conn
	waiting chan struct{} // closed when the first byte is waited for
	request chan []byte
	began   chan struct{} // has one when the request has got a deadline

	mu       sync.Mutex
	deadline time.Time
}

func (r *raced) Read(p []byte) (int, error) {
	close(r.waiting)
	return copy(p, <-r.request), nil
}

func (r *raced) SetReadDeadline(t time.Time) error {
	select {
	case <-r.waiting:
		r.meanwhile(t)
	default:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deadline = t
	return nil
}

// meanwhile lets the request begin before Drain's deadline is set, if nothing
// keeps it from that.
func (r *raced) meanwhile(t time.Time) {
	if !t.Equal(past) {
		r.began <- struct{}{}
		return
	}
	r.request <- []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
	select {
	case <-r.began:
	case <-time.After(50 * time.Millisecond):
	}
}

func TestDrainSparesARequestThatBegins(t *testing.T) {
	r := &raced{waiting: make(chan struct{}), request: make(chan []byte), began: make(chan struct{}, 1)}
	c := New(Config{Caller: r})
	done := make(chan bool)
	go func() {
		whole := false
		if c.await() {
			_, whole, _ = c.readHead()
		}
		done <- whole
	}()
	<-r.waiting
	c.Drain()
	if !<-done {
		t.Error("the request was not read")
	}
	if c.lasts() {
		t.Error("more requests may follow")
	}
	if r.deadline.Equal(past) {
		t.Error("the rest of the request cannot arrive any more")
	}
}
