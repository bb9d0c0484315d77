package session

import (
	"errors"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/http2/frame"
)

// Open reserves a stream to the peer. It is nil if the peer takes none now; away
// says that it will take no more at all.
func (s *Session) Open() (st *Stream, away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.away || !s.mux.Takes() {
		return nil, true
	}
	if !s.mux.CanOpen(s.reserved) {
		return nil, false
	}
	s.reserved++
	return s.stream(), false
}

// Used reports whether the connection has carried calls.
func (s *Session) Used() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mux.Used()
}

// SendRequest sends the head of a request on a stream that was opened here. With
// end, nothing follows it.
func (st *Stream) SendRequest(r *exchange.Request, host, client string, end bool) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.err == nil && s.closed {
		st.err = &LostError{s.err}
	}
	if st.err == nil && !s.mux.Takes() {
		st.err = errGoAway
	}
	if st.err != nil {
		return
	}
	s.reserved--
	st.mux = s.mux.OpenStream()
	st.mux.Owner = st
	st.bodiless = string(r.Method) == "HEAD"
	at := s.mux.BeginHeader()
	s.writer.Request(s.mux, r, host, client)
	s.mux.EndHeader(at, st.mux, end)
	s.kick()
}

// SendResponse sends the head of a response on a stream that the peer has
// opened. With end, nothing follows it.
func (st *Stream) SendResponse(r *exchange.Response, fromApplication, end bool) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.err != nil || st.mux.LocalEnded() {
		return
	}
	at := s.mux.BeginHeader()
	s.writer.Response(s.mux, r, fromApplication)
	s.mux.EndHeader(at, st.mux, end)
}

// Gather takes data to be sent, as much as there is room for until Flush. With
// end, nothing follows it.
func (st *Stream) Gather(data []byte, end bool) (n int) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.err != nil || st.mux == nil || st.mux.LocalEnded() {
		return len(data) // Flush tells
	}
	room := max(0, batch-len(s.mux.Out()))
	n = min(len(data), room)
	n = s.mux.Send(st.mux, data[:n], end && n == len(data))
	st.full = n < len(data)
	return n
}

// Flush sends what was gathered, or waits until there is room again.
func (st *Stream) Flush() error {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kick()
	for st.full && st.err == nil {
		if s.mux.Window(st.mux) > 0 && len(s.mux.Out()) < batch {
			st.full = false
			break
		}
		s.blocked = append(s.blocked, st)
		if err := st.writing.wait(); err != nil {
			return err
		}
	}
	return st.sendError()
}

// sendError is why nothing more can be sent. That the peer wants no more once it
// has said all is no error of ours.
func (st *Stream) sendError() error {
	if st.err != nil && st.mux != nil && !st.mux.EndedWell() {
		return st.err
	}
	if st.err != nil && st.mux == nil {
		return st.err
	}
	return nil
}

// wakeBlocked lets those try again that wait for the connection, the first
// first.
func (s *Session) wakeBlocked() {
	for i, st := range s.blocked {
		st.writing.cond.Broadcast()
		s.blocked[i] = nil
	}
	s.blocked = s.blocked[:0]
}

// End ends what is sent, with trailers if there are any.
func (st *Stream) End(trailers []byte) error {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.err == nil && st.mux != nil && !st.mux.LocalEnded() {
		if len(trailers) > 0 {
			at := s.mux.BeginHeader()
			s.writer.Trailers(s.mux, trailers)
			s.mux.EndHeader(at, st.mux, true)
		} else {
			s.mux.Send(st.mux, nil, true)
		}
	}
	s.kick()
	return st.sendError()
}

// Reset ends the stream at once.
func (st *Stream) Reset(code frame.Code) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.mux != nil && !s.closed {
		s.mux.Reset(st.mux, code)
		s.kick()
	}
	st.fail(errReset)
}

var errReset = errors.New("the stream was reset here")
