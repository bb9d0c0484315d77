package session

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/http2/frame"
	"github.com/meshd/meshd/proxy/http2/hpack"
	"github.com/meshd/meshd/proxy/http2/message"
	"github.com/meshd/meshd/proxy/http2/mux"
)

// A ResetError is what a stream ends with before its time.
type ResetError struct {
	Code frame.Code
	// Untouched says that the peer has not dealt with the stream.
	Untouched bool
	// Err is what the peer did wrong, if it was not the peer who has reset it.
	Err error
}

func (e *ResetError) Error() string {
	if e.Err != nil {
		return "the stream was reset: " + e.Err.Error()
	}
	return "the peer has reset the stream: " + e.Code.String()
}

func (e *ResetError) Unwrap() error { return e.Err }

// A Stream is one call. One goroutine may read from it while another writes.
type Stream struct {
	session          *Session
	reading, writing waiter
	call
}

// A call is what a stream is used for.
type call struct {
	mux *mux.Stream // nil until a request is sent

	// Request is what the peer asks, if it has opened the stream, and Problem
	// why that is refused, or nil.
	Request exchange.Request
	Problem error

	// Of what has come.
	block       *hpack.Block   // that the request or response stands in
	heads       []*hpack.Block // of responses not yet taken
	headed      bool           // the last of them has come
	response    exchange.Response
	trailers    []byte
	buf, spare  []byte
	given       int // bytes that the reader was given last
	heard       bool
	remoteEnded bool
	err         error

	// Of what is sent.
	bodiless bool // the response to it can have no body
	full     bool // not all was gathered
}

// A waiter waits for a stream, with a deadline.
type waiter struct {
	cond     sync.Cond
	deadline time.Time
	timer    *time.Timer
}

func (w *waiter) wait() error {
	if !w.deadline.IsZero() {
		left := time.Until(w.deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		if w.timer == nil {
			w.timer = time.AfterFunc(left, w.expire)
		} else {
			w.timer.Reset(left)
		}
		defer w.timer.Stop()
	}
	w.cond.Wait()
	return nil
}

func (w *waiter) expire() {
	w.cond.L.Lock()
	defer w.cond.L.Unlock()
	w.cond.Broadcast()
}

func (w *waiter) set(t time.Time) {
	w.cond.L.Lock()
	defer w.cond.L.Unlock()
	w.deadline = t
	w.cond.Broadcast()
}

// SetReadDeadline sets when waiting for the peer ends; zero is never.
func (st *Stream) SetReadDeadline(t time.Time) error { st.reading.set(t); return nil }

// SetWriteDeadline sets when waiting to send ends; zero is never.
func (st *Stream) SetWriteDeadline(t time.Time) error { st.writing.set(t); return nil }

// keptStreams bounds what is held for later. A stream stays with its session:
// its timers may still be about to fire.
const keptStreams = 128

// stream gives a stream that is not yet in use.
func (s *Session) stream() *Stream {
	if n := len(s.free); n > 0 {
		st := s.free[n-1]
		s.free = s.free[:n-1]
		return st
	}
	st := &Stream{session: s}
	st.reading.cond.L, st.writing.cond.L = &s.mu, &s.mu
	return st
}

// Release ends the stream: if it is not over, it is reset.
func (st *Stream) Release() {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	st.release()
}

func (st *Stream) release() {
	s := st.session
	if st.mux == nil {
		s.reserved--
	} else {
		s.mux.Release(st.mux)
	}
	st.recycle()
	if s.mux.Open()+s.reserved == 0 {
		s.idleAt = time.Now()
		if s.Idle > 0 && s.err == nil {
			s.rearm()
		}
		s.hurryIfOver()
	}
	s.kick()
}

// recycle gives back what the stream has gathered.
func (st *Stream) recycle() {
	for _, b := range st.heads {
		mux.Recycle(b)
	}
	if st.block != nil {
		mux.Recycle(st.block)
	}
	dropPayload(st.buf)
	dropPayload(st.spare)
	st.call = call{Request: st.Request, response: st.response, heads: st.heads[:0], trailers: st.trailers[:0]}
	st.reading.deadline, st.writing.deadline = time.Time{}, time.Time{}
	if len(st.session.free) < keptStreams {
		st.session.free = append(st.session.free, st)
	}
}

// fail ends the stream for both its users.
func (st *Stream) fail(err error) {
	if st.err == nil {
		st.err = err
	}
	st.reading.cond.Broadcast()
	st.writing.cond.Broadcast()
}

// malformed resets the stream for what the peer has sent.
func (st *Stream) malformed(err error) {
	st.session.mux.Blame(st.mux, err.Error(), time.Now())
	st.fail(&ResetError{Code: frame.ProtocolError, Err: err})
}

// maxHeads is how many responses may wait to be taken; of those before the last,
// more are left out.
const maxHeads = 16

func (st *Stream) takeHead(e *mux.Event, status int) {
	st.heard = true
	if st.headed = status >= 200; st.headed {
		st.remoteEnded = e.End
		st.expect(message.Length(e.Block), status)
	} else if len(st.heads) >= maxHeads {
		mux.Recycle(e.Block)
		return
	}
	st.heads = append(st.heads, e.Block)
	st.reading.cond.Broadcast()
}

// expect notes how much data must follow the head of a response.
func (st *Stream) expect(length int64, status int) {
	if st.bodiless || status == 204 || status == 304 {
		length = 0
	}
	if length >= 0 && !st.mux.Expect(length) {
		st.malformed(errors.New("the response is shorter than its content-length"))
	}
}

func (st *Stream) takeTrailers(e *mux.Event) {
	var err error
	st.trailers, err = message.TakeTrailers(st.trailers[:0], e.Block)
	mux.Recycle(e.Block)
	switch {
	case err == nil && !e.End:
		err = errors.New("trailers do not end the stream")
		fallthrough
	case err != nil:
		st.malformed(err)
		return
	}
	st.remoteEnded = true
	st.reading.cond.Broadcast()
}

func (st *Stream) takeData(e *mux.Event) {
	if !st.headed {
		st.malformed(errors.New("data comes before the response"))
		return
	}
	st.buf = appendPayload(st.buf, e.Data)
	st.remoteEnded = st.remoteEnded || e.End
	st.reading.cond.Broadcast()
}

// Next gives more data that has come. Unless it may wait, it gives nothing when
// there is none; nor does it at the end.
func (st *Stream) Next(wait bool) ([]byte, error) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.given > 0 && st.mux != nil {
		s.mux.Consumed(st.mux, int64(st.given))
		st.given = 0
		s.kick()
	}
	for len(st.buf) == 0 {
		switch {
		case st.remoteEnded:
			return nil, nil
		case st.err != nil:
			return nil, st.err
		case !wait:
			return nil, nil
		}
		if err := st.reading.wait(); err != nil {
			return nil, err
		}
	}
	payload := st.buf
	st.buf, st.spare = st.spare[:0], payload
	st.given = len(payload)
	return payload, nil
}

// Ended reports whether all data was given.
func (st *Stream) Ended() bool {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	return st.remoteEnded && len(st.buf) == 0
}

// Trailers are the fields after the data, as lines of HTTP/1.1.
func (st *Stream) Trailers() []byte {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	return st.trailers
}

// Response waits for the next response, which is valid until the next call.
func (st *Stream) Response() (*exchange.Response, error) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(st.heads) == 0 {
		if st.err != nil {
			return nil, st.err
		}
		if err := st.reading.wait(); err != nil {
			return nil, err
		}
	}
	if st.block != nil {
		mux.Recycle(st.block)
	}
	st.block = st.heads[0]
	st.heads = st.heads[:copy(st.heads, st.heads[1:])]
	if err := message.TakeResponse(st.block, &st.response); err != nil {
		s.mux.Reset(st.mux, frame.ProtocolError)
		return nil, badResponse(err)
	}
	return &st.response, nil
}

// badResponse makes an error of whoever wrote the response.
func badResponse(err error) error {
	if bad, ok := err.(message.Malformed); ok {
		return exchange.Bad(bad.Error())
	}
	return err
}

// Silent reports whether no response has begun to come.
func (st *Stream) Silent() bool {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	return !st.heard
}

// Leaves waits until the peer has reset the stream, or the connection is lost.
func (st *Stream) Leaves() error {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	for st.err == nil {
		if st.reading.wait() != nil {
			return nil
		}
	}
	return fmt.Errorf("the caller has left: %w", st.err)
}
