package session

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/meshd/meshd/proxy/http2/frame"
	"github.com/meshd/meshd/proxy/http2/message"
	"github.com/meshd/meshd/proxy/http2/mux"
)

// A frame of the largest size fits into a buffer, with others behind it.
type buffer [32 << 10]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// read takes what arrives until the connection ends.
func (s *Session) read() error {
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	r, w := 0, 0
	for {
		if r == w {
			r, w = 0, 0
		} else if len(buf)-w < frame.HeaderSize+frame.DefaultMaxSize {
			w = copy(buf[:], buf[r:w])
			r = 0
		}
		if err := s.arm(); err != nil {
			return err
		}
		n, err := s.Conn.Read(buf[w:])
		if w += n; n > 0 {
			k, err := s.take(buf[r:w])
			if r += k; err != nil {
				return err
			}
			continue
		}
		if err = s.judge(err); err != nil {
			return err
		}
	}
}

// arm prepares to wait, unless there is nothing to wait for.
func (s *Session) arm() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over() {
		return ErrClosed
	}
	if s.err != nil {
		return s.err
	}
	s.rearm()
	return nil
}

// rearm sets the deadline for what is waited for, if it is another one than
// before.
func (s *Session) rearm() {
	if limit := s.limit(); !limit.Equal(s.armed) {
		s.armed = limit
		s.Conn.SetReadDeadline(limit)
	}
}

// limit is when something has to be done if nothing arrives.
func (s *Session) limit() (limit time.Time) {
	limit = s.Until
	sooner := func(t time.Time) {
		if limit.IsZero() || t.Before(limit) {
			limit = t
		}
	}
	if !s.mux.Acked() {
		sooner(s.began.Add(settingsTimeout))
	}
	if !s.headBy.IsZero() {
		sooner(s.headBy)
	}
	switch {
	case s.asked:
		sooner(s.heardAt.Add(s.Silence + s.Answer))
	case s.Silence > 0:
		sooner(s.heardAt.Add(s.Silence))
	}
	if s.Idle > 0 && s.mux.Open()+s.reserved == 0 {
		sooner(s.idleAt.Add(s.Idle))
	}
	return limit
}

// judge says what follows from a read that gave nothing: the end of the
// connection, or that something is due.
func (s *Session) judge(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		err = io.ErrNoProgress
	}
	if s.over() {
		return ErrClosed
	}
	if s.err != nil {
		return s.err
	}
	if !isTimeout(err) {
		return err
	}
	s.armed = past
	now := time.Now()
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case due(s.Until):
		return errOld
	case !s.mux.Acked() && due(s.began.Add(settingsTimeout)):
		s.mux.Fail(frame.SettingsTimeout, "settings were not acknowledged")
	case due(s.headBy):
		s.mux.Fail(frame.EnhanceYourCalm, "a field block takes too long")
	case s.asked && due(s.heardAt.Add(s.Silence+s.Answer)):
		return ErrSilent
	case s.Idle > 0 && s.mux.Open()+s.reserved == 0 && due(s.idleAt.Add(s.Idle)):
		s.mux.Drain()
		s.kick()
		return ErrIdle
	case !s.asked && s.Silence > 0 && due(s.heardAt.Add(s.Silence)):
		s.asked = true
		s.mux.Ping([8]byte{})
	}
	s.kick()
	return s.mux.Err()
}

// take deals with bytes that have arrived, and returns how many are done with.
func (s *Session) take(b []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.kick()
	now := time.Now()
	s.heardAt, s.asked = now, false
	for {
		e, k, err := s.mux.Next(b[n:], now)
		if err != nil {
			return n, err
		}
		s.handle(&e)
		if n += k; k == 0 {
			break
		}
	}
	s.watchHead(b[n:], now)
	for len(s.mux.Out()) > owed && s.err == nil {
		s.roomy.Wait()
	}
	return n, nil
}

// watchHead limits how long a field block may take, from its first byte on. What
// is shorter than a frame's type could begin one.
func (s *Session) watchHead(left []byte, now time.Time) {
	const kind = 3 // where the type stands
	begun := s.mux.MidHeader() || !s.mux.Settled() || len(left) > 0 && (len(left) <= kind || frame.Type(left[kind]) == frame.Headers)
	switch {
	case !begun:
		s.headBy = time.Time{}
	case s.headBy.IsZero():
		s.headBy = now.Add(headTimeout)
	}
}

// handle tells those whom an event is for.
func (s *Session) handle(e *mux.Event) {
	switch e.Kind {
	case mux.Header:
		s.handleHeader(e)
	case mux.Data:
		e.Stream.Owner.(*Stream).takeData(e)
	case mux.Reset:
		if st, ok := e.Stream.Owner.(*Stream); ok {
			st.fail(&ResetError{Code: e.Code, Untouched: e.Code == frame.RefusedStream, Err: e.Err})
		}
	case mux.Window:
		if e.Stream == nil {
			s.wakeBlocked()
		} else if st, ok := e.Stream.Owner.(*Stream); ok {
			st.writing.cond.Broadcast()
		}
	case mux.Pong:
		if s.drainEnd != nil && [8]byte(e.Data) == drainPing && !s.away {
			s.mux.Drain()
			s.away = true
			s.hurryIfOver()
		}
	case mux.Away:
		s.handleAway(e)
	}
}

// handleAway lets go of streams that the peer has not dealt with.
func (s *Session) handleAway(e *mux.Event) {
	s.away = true
	s.mux.EachStream(func(m *mux.Stream) {
		if st, ok := m.Owner.(*Stream); ok && s.Client && m.ID > e.Last {
			st.fail(errGoAway)
		}
	})
	s.hurryIfOver()
}

func (s *Session) handleHeader(e *mux.Event) {
	if e.Stream.Owner == nil && !s.Client {
		s.accept(e)
		return
	}
	st := e.Stream.Owner.(*Stream)
	if st.headed {
		st.takeTrailers(e)
		return
	}
	status := message.Status(e.Block)
	if status == 0 || status < 200 && e.End {
		mux.Recycle(e.Block)
		st.malformed(fmt.Errorf("the stream begins with no response"))
		return
	}
	st.takeHead(e, status)
}

// accept begins a stream that the peer has opened.
func (s *Session) accept(e *mux.Event) {
	st := s.stream()
	st.mux, e.Stream.Owner, st.headed, st.remoteEnded = e.Stream, st, true, e.End
	st.block = e.Block
	err := message.TakeRequest(e.Block, &st.Request, e.End)
	if bad, ok := err.(message.Malformed); ok {
		s.mux.Blame(e.Stream, bad.Error(), time.Now())
		st.release()
		return
	}
	if st.Request.Length >= 0 && st.Request.Body {
		e.Stream.Expect(st.Request.Length)
	}
	st.Problem = err
	s.running.Go(func() {
		s.Serve(st)
		st.Release()
	})
}
