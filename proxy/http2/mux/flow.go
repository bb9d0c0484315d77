package mux

import (
	"time"

	"github.com/meshd/meshd/proxy/http2/frame"
)

var (
	errConnFlow = &frame.Error{Code: frame.FlowControlError, Reason: "more data comes than the connection's window allows"}
	errOverflow = &frame.Error{Code: frame.FlowControlError, Reason: "a window grows beyond what it can be"}
)

func (c *Conn) takeData(h frame.Header, payload []byte, now time.Time) (e Event, err error) {
	data, err := frame.ParseData(h, payload)
	if err != nil {
		return e, err
	}
	if c.idle(h.Stream) {
		return e, errIdle
	}
	if int64(len(payload)) > c.recvWindow {
		return e, errConnFlow
	}
	c.recvWindow -= int64(len(payload))
	defer c.topUp()
	end := h.Flags.Has(frame.EndStream)
	if len(data) == 0 && !end {
		if c.floods.idle(&c.Config, now) {
			return e, errTooIdle
		}
	} else {
		c.floods.useful()
	}
	s := c.streams[h.Stream]
	if s == nil {
		return e, c.lateData(h.Stream)
	}
	if err := s.receive(int64(len(payload)), int64(len(data)), end); err != nil {
		return e, err
	}
	c.held += int64(len(data))
	c.credit(s)
	c.ended(s)
	return Event{Kind: Data, Stream: s, Data: data, End: end}, nil
}

// lateData deals with data of a stream that is over.
func (c *Conn) lateData(stream uint32) error {
	if c.closed.find(stream) == resetByUs {
		return nil
	}
	return &frame.Error{Stream: stream, Code: frame.StreamClosed, Reason: "data comes on a stream that has ended"}
}

// receive notes data that has come. Padding is consumed at once.
func (s *Stream) receive(size, data int64, end bool) error {
	switch {
	case s.remoteEnded:
		return &frame.Error{Stream: s.ID, Code: frame.StreamClosed, Reason: "data comes after the end of the stream"}
	case !s.headed:
		return &frame.Error{Stream: s.ID, Code: frame.ProtocolError, Reason: "data comes before a header"}
	case size > s.recvWindow:
		return &frame.Error{Stream: s.ID, Code: frame.FlowControlError, Reason: "more data comes than the stream's window allows"}
	case s.left >= 0 && data > s.left:
		return errLength(s.ID)
	}
	s.recvWindow -= size
	s.held += data
	s.credit += size - data
	if s.left >= 0 {
		s.left -= data
	}
	if s.remoteEnded = end; end {
		return s.complete()
	}
	return nil
}

func errLength(stream uint32) error {
	return &frame.Error{Stream: stream, Code: frame.ProtocolError, Reason: "there is more or less data than content-length says"}
}

// complete reports whether all data has come that was announced.
func (s *Stream) complete() error {
	if s.left > 0 {
		return errLength(s.ID)
	}
	return nil
}

// Expect says how much data must come on a stream whose header has just been
// received. It is false if the stream has ended without.
func (s *Stream) Expect(n int64) bool {
	s.left = n
	return n == 0 || !s.remoteEnded
}

// Consumed says that data of a stream waits no more, so that the peer may send
// as much again.
func (c *Conn) Consumed(s *Stream, n int64) {
	n = min(n, s.held)
	s.held -= n
	c.held -= n
	s.credit += n
	c.credit(s)
	c.topUp()
}

// credit tells the peer of what was consumed on a stream, when it is worth a
// frame.
func (c *Conn) credit(s *Stream) {
	if s.remoteEnded || s.credit < c.StreamWindow/2 || c.err != nil {
		return
	}
	c.out = frame.AppendWindowUpdate(c.out, s.ID, s.credit)
	s.recvWindow += s.credit
	s.credit = 0
}

// topUp tells the peer how much more it may send on all streams together. Data
// that waits does not count as long as there is little of it, so that slow
// streams do not stand in the way of others.
func (c *Conn) topUp() {
	allowed := c.Config.Window - max(0, c.held-c.Held)
	if n := allowed - c.recvWindow; n > 0 && n >= c.Config.Window/2 && c.err == nil {
		c.out = frame.AppendWindowUpdate(c.out, 0, n)
		c.recvWindow += n
	}
}

func (c *Conn) takeWindowUpdate(h frame.Header, payload []byte) (e Event, err error) {
	if h.Stream != 0 && c.idle(h.Stream) {
		return e, errIdle
	}
	n, err := frame.ParseWindowUpdate(h, payload)
	if err != nil {
		return e, err
	}
	if h.Stream == 0 {
		if c.sendWindow += n; c.sendWindow > frame.MaxWindow {
			return e, errOverflow
		}
		return Event{Kind: Window}, nil
	}
	s := c.streams[h.Stream]
	if s == nil {
		return e, nil
	}
	if s.sendWindow += n; s.sendWindow > frame.MaxWindow {
		return e, &frame.Error{Stream: s.ID, Code: frame.FlowControlError, Reason: errOverflow.Reason}
	}
	return Event{Kind: Window, Stream: s}, nil
}

// setWindow changes the window that streams begin with, and what is left of it
// on those that have begun.
func (c *Conn) setWindow(n int64) error {
	for _, s := range c.streams {
		if s.sendWindow += n - c.peer.window; s.sendWindow > frame.MaxWindow {
			return errOverflow
		}
	}
	c.peer.window = n
	return nil
}
