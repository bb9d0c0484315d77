package mux

import "github.com/meshd/meshd/proxy/http2/frame"

// BeginHeader begins a field block; Field adds fields to it, and EndHeader sends
// it. Nothing else may be done with the connection between.
func (c *Conn) BeginHeader() (start int) {
	start = len(c.out)
	c.out = c.encoder.Begin(frame.BeginHeaders(c.out))
	return start
}

// Field adds a field, whose name is in lower case.
func (c *Conn) Field(name, value []byte, sensitive bool) {
	c.out = c.encoder.Append(c.out, name, value, sensitive)
}

// EndHeader sends the block that BeginHeader has begun: for a stream that may
// still be written to. With end, nothing follows it.
func (c *Conn) EndHeader(start int, s *Stream, end bool) {
	c.out = frame.EndBlock(c.out, start, s.ID, end, c.peer.maxFrame)
	if end {
		s.localEnded = true
		c.ended(s)
	}
}

// Send sends data as far as windows allow, and returns how much that was. The
// end is sent with the last byte.
func (c *Conn) Send(s *Stream, data []byte, end bool) (n int) {
	if s.localEnded || c.err != nil {
		return 0
	}
	n = int(min(int64(len(data)), c.Window(s)))
	end = end && n == len(data)
	if n == 0 && !end {
		return 0
	}
	c.sendWindow -= int64(n)
	s.sendWindow -= int64(n)
	for rest := data[:n]; ; {
		piece := rest[:min(len(rest), c.peer.maxFrame, frame.DefaultMaxSize)]
		rest = rest[len(piece):]
		c.out = frame.AppendData(c.out, s.ID, piece, end && len(rest) == 0)
		if len(rest) == 0 {
			break
		}
	}
	c.floods.useful()
	if end {
		s.localEnded = true
		c.ended(s)
	}
	return n
}
