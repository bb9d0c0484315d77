package mux

import (
	"errors"
	"time"

	"github.com/meshd/meshd/proxy/http2/frame"
	"github.com/meshd/meshd/proxy/http2/hpack"
)

// A Kind is what has happened.
type Kind uint8

const (
	// Nothing that anybody has to know. More may follow.
	Nothing Kind = iota
	// Header: fields have come, the first ones of a stream, or others, or, with
	// End, trailers.
	Header
	// Data has come. It must be consumed some time.
	Data
	// Reset: the stream is over, by the peer, or for what the peer did.
	Reset
	// Window: more can be sent, on one stream, or on any if there is none.
	Window
	// Pong answers a Ping.
	Pong
	// Away: the peer takes no more streams, and those above Last it has not
	// dealt with.
	Away
)

// An Event is what has happened on a connection.
type Event struct {
	Kind   Kind
	Stream *Stream
	Block  *hpack.Block // of Header, to be recycled
	Data   []byte       // of Data or Pong, valid until the next call
	End    bool         // the peer has ended the stream
	Code   frame.Code   // of Reset and Away
	Err    error        // of Reset, if the peer has not sent it but caused it
	Last   uint32       // of Away
}

// Next takes bytes from the front of b, one frame at most, and tells what it
// says. Without bytes taken, more are needed behind those in b. After an error
// the connection is over once Out is sent.
func (c *Conn) Next(b []byte, now time.Time) (e Event, n int, err error) {
	if c.err != nil {
		return e, 0, c.err
	}
	if !c.begun {
		return e, c.takePreface(b), c.err
	}
	if len(b) < frame.HeaderSize {
		return e, 0, nil
	}
	h := frame.ParseHeader(b)
	whole := frame.HeaderSize + h.Length
	if err := c.check(h); err != nil {
		var bad *frame.Error
		if errors.As(err, &bad) && bad.Stream == 0 {
			return e, 0, c.fail(bad)
		}
		if len(b) < whole {
			return e, 0, nil
		}
		e, err = c.blame(err, now)
		return e, whole, err
	}
	if len(b) < whole {
		return e, 0, nil
	}
	if e, err = c.take(h, b[frame.HeaderSize:whole], now); err != nil {
		e, err = c.blame(err, now)
	}
	return e, whole, err
}

// takePreface checks what a client sends first as it comes.
func (c *Conn) takePreface(b []byte) (n int) {
	n = min(len(b), len(frame.Preface))
	if string(b[:n]) != frame.Preface[:n] {
		c.fail(&frame.Error{Code: frame.ProtocolError, Reason: "the connection does not begin as HTTP/2 does"})
		return 0
	}
	if c.begun = n == len(frame.Preface); !c.begun {
		return 0
	}
	return n
}

var (
	errUnsettled   = &frame.Error{Code: frame.ProtocolError, Reason: "the first frame is not SETTINGS"}
	errInterrupted = &frame.Error{Code: frame.ProtocolError, Reason: "a field block is interrupted"}
	errStray       = &frame.Error{Code: frame.ProtocolError, Reason: "a CONTINUATION continues nothing"}
	errIdle        = &frame.Error{Code: frame.ProtocolError, Reason: "a frame is about a stream that was not opened"}
)

// check refuses a frame by its header, before its payload is waited for.
func (c *Conn) check(h frame.Header) error {
	switch {
	case !c.settled && (h.Type != frame.SettingsType || h.Flags.Has(frame.Ack)):
		return errUnsettled
	case c.header.stream != 0 && (h.Type != frame.Continuation || h.Stream != c.header.stream):
		return errInterrupted
	case c.header.stream == 0 && h.Type == frame.Continuation && h.Stream != 0:
		return errStray
	}
	return h.Check(frame.DefaultMaxSize)
}

// blame deals with what the peer did wrong: to a stream, or to all of them.
func (c *Conn) blame(err error, now time.Time) (e Event, _ error) {
	var bad *frame.Error
	if !errors.As(err, &bad) {
		bad = &frame.Error{Code: frame.CompressionError, Reason: err.Error()}
	}
	if bad.Stream == 0 {
		return e, c.fail(bad)
	}
	if c.floods.reset(&c.Config, now) {
		return e, c.fail(errTooManyResets)
	}
	s := c.streams[bad.Stream]
	if s == nil {
		if c.opening(bad.Stream) {
			c.lastPeer = bad.Stream
			c.closed.add(bad.Stream, resetByUs)
		}
		c.out = frame.AppendReset(c.out, bad.Stream, bad.Code)
		return e, nil
	}
	c.Reset(s, bad.Code)
	return Event{Kind: Reset, Stream: s, Code: bad.Code, Err: bad}, nil
}

// opening reports whether a stream is one that the peer could open now.
func (c *Conn) opening(stream uint32) bool {
	return !c.Client && stream%2 == 1 && stream > c.lastPeer
}

// idle reports whether a stream was never opened.
func (c *Conn) idle(stream uint32) bool {
	if stream%2 == 0 {
		return true
	}
	if c.Client {
		return stream >= c.nextOwn
	}
	return stream > c.lastPeer
}

// take deals with a frame that looks right.
func (c *Conn) take(h frame.Header, payload []byte, now time.Time) (e Event, err error) {
	switch h.Type {
	case frame.Data:
		return c.takeData(h, payload, now)
	case frame.Headers:
		return c.takeHeaders(h, payload, now)
	case frame.Continuation:
		return c.takeContinuation(h, payload, now)
	}
	if h.Type != frame.Reset && c.floods.idle(&c.Config, now) {
		return e, errTooIdle
	}
	switch h.Type {
	case frame.Priority:
		return e, frame.CheckPriority(h, payload)
	case frame.Reset:
		return c.takeReset(h, payload, now)
	case frame.SettingsType:
		return c.takeSettings(h, payload)
	case frame.PingType:
		return c.takePing(h, payload), nil
	case frame.GoAwayType:
		return c.takeGoAway(payload), nil
	case frame.WindowUpdateType:
		return c.takeWindowUpdate(h, payload)
	}
	return e, nil // of a type that we do not know
}

func (c *Conn) takeReset(h frame.Header, payload []byte, now time.Time) (e Event, err error) {
	if c.idle(h.Stream) {
		return e, errIdle
	}
	s := c.streams[h.Stream]
	// A stream that was answered in full may be reset for what is still to be
	// sent, without blame.
	if (s == nil || !s.localEnded) && c.floods.reset(&c.Config, now) {
		return e, errTooManyResets
	}
	if s == nil {
		return e, nil
	}
	c.end(s, resetByPeer)
	return Event{Kind: Reset, Stream: s, Code: frame.ParseReset(payload)}, nil
}

func (c *Conn) takePing(h frame.Header, payload []byte) (e Event) {
	if h.Flags.Has(frame.Ack) {
		return Event{Kind: Pong, Data: payload}
	}
	c.out = frame.AppendPing(c.out, [8]byte(payload), true)
	return e
}

func (c *Conn) takeGoAway(payload []byte) Event {
	last, code := frame.ParseGoAway(payload)
	c.goneAway = true
	return Event{Kind: Away, Last: last, Code: code}
}

func (c *Conn) takeSettings(h frame.Header, payload []byte) (e Event, err error) {
	if h.Flags.Has(frame.Ack) {
		c.acked = true
		return e, nil
	}
	c.settled = true
	for len(payload) > 0 {
		var s frame.Setting
		if s, payload, err = frame.NextSetting(payload); err != nil {
			return e, err
		}
		if err := c.set(s); err != nil {
			return e, err
		}
	}
	c.out = frame.AppendSettingsAck(c.out)
	return Event{Kind: Window}, nil
}

func (c *Conn) set(s frame.Setting) error {
	switch s.ID {
	case frame.HeaderTableSize:
		c.encoder.Allow(int(s.Value))
	case frame.MaxConcurrentStreams:
		c.peer.streams = s.Value
	case frame.InitialWindowSize:
		return c.setWindow(int64(s.Value))
	case frame.MaxFrameSize:
		c.peer.maxFrame = int(s.Value)
	case frame.EnableConnectProtocol:
		c.peer.extended = s.Value == 1
	case frame.EnablePush:
		if c.Client && s.Value == 1 {
			return &frame.Error{Code: frame.ProtocolError, Reason: "a server wants to be pushed to"}
		}
	}
	return nil
}
