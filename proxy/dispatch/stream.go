package dispatch

import (
	"bytes"
	"time"

	"github.com/meshd/meshd/proxy/authz"
	"github.com/meshd/meshd/proxy/exchange"
)

// A Stream is a connection that outlives the decision about it: TCP, or what
// HTTP was upgraded to. Policy is evaluated for it again whenever it changes.
type Stream struct {
	dispatcher *Dispatcher
	serverName string
	call       authz.Call
	cut        func()
	expiry     *time.Timer // nil if the caller's identity does not end
}

// Hold makes the call a stream: cut is called, at most once, if policy comes to
// refuse it, or when the certificate ends by which the caller is known; a zero
// time is never. Release must be called at its end. Calls to other hosts are
// their agents' to cut.
func (c *Call) Hold(until time.Time, cut func()) *Stream {
	if c.serverName == "" {
		return &Stream{}
	}
	q := c.question()
	q.Method, q.Path = bytes.Clone(q.Method), bytes.Clone(q.Path)
	s := &Stream{dispatcher: c.dispatcher, serverName: c.serverName, call: q, cut: cut}
	c.dispatcher.hold(s, until)
	return s
}

// Release ends the stream.
func (s *Stream) Release() {
	if s.dispatcher != nil {
		s.dispatcher.mu.Lock()
		defer s.dispatcher.mu.Unlock()
		delete(s.dispatcher.streams, s)
		if s.expiry != nil {
			s.expiry.Stop()
		}
	}
}

func (d *Dispatcher) hold(s *Stream, until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.streams[s] = struct{}{}
	if !until.IsZero() {
		s.expiry = time.AfterFunc(time.Until(until), s.expire)
	}
	// The plan may have changed since it was asked.
	d.check(s, d.world.Load())
}

// recheck cuts the streams that policy refuses by now.
func (d *Dispatcher) recheck(w *world) {
	for s := range d.streams {
		d.check(s, w)
	}
}

// check leaves streams alone whose instance is gone: they are its last.
func (d *Dispatcher) check(s *Stream, w *world) {
	if in := w.inbound[s.serverName]; in != nil && !s.allowed(in) {
		delete(d.streams, s)
		s.cut()
	}
}

// expire cuts the stream unless it is over.
func (s *Stream) expire() {
	s.dispatcher.mu.Lock()
	defer s.dispatcher.mu.Unlock()
	if _, open := s.dispatcher.streams[s]; open {
		delete(s.dispatcher.streams, s)
		s.cut()
	}
}

func (s *Stream) allowed(in *inbound) bool {
	call := s.call
	if call.HTTP && in.policies.ReadsPaths() {
		path, err := exchange.AppendCanonicalPath(nil, call.Path)
		if err != nil {
			return false
		}
		call.Path = path
	}
	return in.policies.Evaluate(call).Allowed
}
