package mux

import (
	"time"

	"github.com/meshd/meshd/proxy/http2/frame"
	"github.com/meshd/meshd/proxy/http2/hpack"
)

// A field block may not be much longer than what it stands for may be, nor come
// in more pieces than one that is written in good faith.
const (
	maxFrames = 64
	maxExcess = 16 << 10
)

var (
	errEven      = &frame.Error{Code: frame.ProtocolError, Reason: "a client opens a stream with an even number"}
	errBackwards = &frame.Error{Code: frame.ProtocolError, Reason: "a stream is opened with a lower number than one before"}
	errClosed    = &frame.Error{Code: frame.StreamClosed, Reason: "a header comes on a stream that has ended"}
	errLongBlock = &frame.Error{Code: frame.EnhanceYourCalm, Reason: "a field block is too long"}
)

func (c *Conn) takeHeaders(h frame.Header, payload []byte, now time.Time) (e Event, err error) {
	if err := c.mayHead(h); err != nil {
		return e, err
	}
	block, err := frame.ParseHeaders(h, payload)
	c.header = heading{end: h.Flags.Has(frame.EndStream), block: c.header.block[:0]}
	if bad, ok := err.(*frame.Error); ok && bad.Stream != 0 {
		c.header.err = err
	} else if err != nil {
		return e, err
	}
	if h.Flags.Has(frame.EndHeaders) {
		return c.takeBlock(h.Stream, block, now)
	}
	c.header.stream, c.header.block = h.Stream, append(c.header.block, block...)
	return e, nil
}

// mayHead refuses headers of streams for which none may come, where that
// concerns the whole connection.
func (c *Conn) mayHead(h frame.Header) error {
	if c.streams[h.Stream] != nil || c.opening(h.Stream) {
		return nil
	}
	switch {
	case c.idle(h.Stream) && !c.Client:
		return errEven
	case c.idle(h.Stream):
		return errIdle
	}
	switch c.closed.find(h.Stream) {
	case resetByUs:
		return nil
	case notKnown:
		return errBackwards
	}
	return errClosed
}

func (c *Conn) takeContinuation(h frame.Header, payload []byte, now time.Time) (e Event, err error) {
	c.header.frames++
	c.header.block = append(c.header.block, payload...)
	if c.header.frames > maxFrames || len(c.header.block) > c.Header.Size+maxExcess {
		return e, errLongBlock
	}
	if !h.Flags.Has(frame.EndHeaders) {
		return e, nil
	}
	c.header.stream = 0
	e, err = c.takeBlock(h.Stream, c.header.block, now)
	if cap(c.header.block) > frame.DefaultMaxSize {
		c.header.block = nil
	}
	return e, err
}

// takeBlock deals with a whole field block. It must be decoded, whatever becomes
// of its stream.
func (c *Conn) takeBlock(stream uint32, raw []byte, now time.Time) (e Event, err error) {
	block := blocks.Get().(*hpack.Block)
	if err := c.decoder.Decode(raw, block); err != nil {
		return e, &frame.Error{Code: frame.CompressionError, Reason: err.Error()}
	}
	s, err := c.headed(stream, now)
	if s == nil || err != nil {
		Recycle(block)
		return e, err
	}
	if c.header.end {
		s.remoteEnded = true
		if err := s.complete(); err != nil {
			Recycle(block)
			return e, err
		}
		c.ended(s)
	}
	return Event{Kind: Header, Stream: s, Block: block, End: s.remoteEnded}, nil
}

// headed gives the stream for which a header has come, or nil if it is of no
// interest.
func (c *Conn) headed(stream uint32, now time.Time) (*Stream, error) {
	s := c.streams[stream]
	switch {
	case c.header.err != nil:
		return nil, c.header.err
	case s == nil && !c.opening(stream):
		return nil, nil // it was reset by us
	case s == nil:
		return c.accept(stream, now)
	case s.remoteEnded:
		return nil, &frame.Error{Stream: stream, Code: frame.StreamClosed, Reason: "a header comes after the end of the stream"}
	case !c.Client && !c.header.end:
		return nil, &frame.Error{Stream: stream, Code: frame.ProtocolError, Reason: "trailers do not end the stream"}
	}
	c.floods.useful()
	s.headed = true
	return s, nil
}

// accept takes a stream that the peer opens.
func (c *Conn) accept(stream uint32, now time.Time) (*Stream, error) {
	if stream > c.drained {
		c.lastPeer = stream
		c.closed.add(stream, resetByUs)
		return nil, nil
	}
	if c.open >= c.Streams {
		return nil, &frame.Error{Stream: stream, Code: frame.RefusedStream, Reason: "too many streams are open"}
	}
	c.lastPeer = stream
	c.floods.useful()
	s := c.newStream(stream)
	s.headed = true
	return s, nil
}
