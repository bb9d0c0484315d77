package http1

import (
	"bytes"
	"time"
)

// preface is what a client sends first that knows by itself that HTTP/2 is
// spoken. It is no HTTP/1.1 request.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// speaksHTTP2 finds out whether the first bytes are the preface.
func (c *Conn) speaksHTTP2() bool {
	c.Caller.SetReadDeadline(time.Now().Add(headTimeout))
	for {
		b := c.in.bytes()
		n := min(len(b), len(preface))
		if string(b[:n]) != preface[:n] {
			return false
		}
		if n == len(preface) {
			return true
		}
		if c.in.fill() != nil {
			return false
		}
	}
}

// handOver has the connection served by another engine.
func (c *Conn) handOver() {
	c.Caller.SetReadDeadline(noDeadline)
	other := c.HTTP2(bytes.Clone(c.in.bytes()))
	c.in.release()
	c.mu.Lock()
	c.other = other
	c.mu.Unlock()
	// Drain looks for the other after it has set draining, so that one of the two
	// sees the other.
	if c.draining.Load() {
		other.Drain()
	}
	other.Serve()
}

var noDeadline time.Time
