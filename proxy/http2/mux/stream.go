package mux

import (
	"time"

	"github.com/meshd/meshd/proxy/http2/frame"
)

// A Stream is one call on a connection.
type Stream struct {
	ID uint32
	// Owner is whoever deals with the stream; it means nothing here.
	Owner any

	sendWindow, recvWindow int64
	held                   int64 // bytes that wait to be consumed
	credit                 int64 // bytes consumed that the peer was not told of
	left                   int64 // bytes of data that must still come, or -1

	opened      bool // its first header was received, or sent by us
	headed      bool // the peer's header was received
	localEnded  bool
	remoteEnded bool
	over        bool // ended both ways, or reset
	finished    bool
}

// Window is how many bytes of data can be sent now.
func (c *Conn) Window(s *Stream) int64 {
	if s.over {
		return 0
	}
	return max(0, min(c.sendWindow, s.sendWindow))
}

// Over reports whether the stream has ended both ways, or was reset.
func (s *Stream) Over() bool { return s.over }

// RemoteEnded reports whether the peer will send no more.
func (s *Stream) RemoteEnded() bool { return s.remoteEnded }

// LocalEnded reports whether we have ended our side.
func (s *Stream) LocalEnded() bool { return s.localEnded }

// EndedWell reports whether both sides have said all.
func (s *Stream) EndedWell() bool { return s.finished }

// EachStream gives the streams that are not over.
func (c *Conn) EachStream(f func(*Stream)) {
	for _, s := range c.streams {
		f(s)
	}
}

// newStream makes a stream that is open.
func (c *Conn) newStream(id uint32) *Stream {
	s := streams.Get().(*Stream)
	*s = Stream{ID: id, sendWindow: c.peer.window, recvWindow: max(c.StreamWindow, frame.DefaultWindow), left: -1, opened: true}
	c.streams[id] = s
	c.open++
	return s
}

// CanOpen reports whether the peer takes another stream of ours now, beside some
// that are still to be opened.
func (c *Conn) CanOpen(others int) bool {
	return c.Takes() && c.open+others < int(min(c.peer.streams, 1<<30))
}

// Takes reports whether the peer will take another stream of ours, if only when
// others have ended.
func (c *Conn) Takes() bool {
	return c.err == nil && !c.goneAway && !c.draining && c.nextOwn < frame.MaxWindow-1
}

// OpenStream opens a stream, whose header must be sent before that of another.
func (c *Conn) OpenStream() *Stream {
	s := c.newStream(c.nextOwn)
	c.nextOwn += 2
	return s
}

// Release says that nobody deals with the stream any more, and must be said once.
// If the stream is not over, it is reset.
func (c *Conn) Release(s *Stream) {
	if code := frame.Cancel; !s.over {
		// A server that has said all needs no more of the request.
		if s.localEnded && !c.Client {
			code = frame.NoError
		}
		c.Reset(s, code)
	}
	c.forget(s)
	c.open--
	s.Owner = nil
	streams.Put(s)
}

// Reset ends a stream at once, both ways.
func (c *Conn) Reset(s *Stream, code frame.Code) {
	if s.over || c.err != nil {
		return
	}
	c.out = frame.AppendReset(c.out, s.ID, code)
	c.end(s, resetByUs)
}

// Blame resets a stream for what the peer has sent on it, as far as that is for
// others than this package to see.
func (c *Conn) Blame(s *Stream, reason string, now time.Time) {
	if s.over || c.err != nil {
		return
	}
	c.blame(&frame.Error{Stream: s.ID, Code: frame.ProtocolError, Reason: reason}, now)
}

// ended ends the stream if both sides have.
func (c *Conn) ended(s *Stream) {
	if s.localEnded && s.remoteEnded {
		c.floods.well()
		c.end(s, endedWell)
	}
}

// end takes a stream out of those that frames may be about.
func (c *Conn) end(s *Stream, how ending) {
	s.finished = how == endedWell
	s.over, s.localEnded, s.remoteEnded = true, true, true
	delete(c.streams, s.ID)
	c.closed.add(s.ID, how)
	if how != endedWell {
		c.forget(s)
	}
}

// forget stops waiting for data to be consumed.
func (c *Conn) forget(s *Stream) {
	c.held -= s.held
	s.held = 0
	c.topUp()
}

// An ending is how a stream ended.
type ending uint8

const (
	notKnown ending = iota
	endedWell
	resetByUs
	resetByPeer
)

// A history is how the last streams ended. Frames about those that we reset may
// still be on their way.
type history struct {
	streams [256]uint32
	endings [256]ending
	next    uint8
}

func (h *history) add(stream uint32, how ending) {
	h.streams[h.next], h.endings[h.next] = stream, how
	h.next++
}

func (h *history) find(stream uint32) ending {
	for i, s := range h.streams {
		if s == stream {
			return h.endings[i]
		}
	}
	return notKnown
}
