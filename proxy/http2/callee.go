package http2

import (
	"errors"
	"net"
	"sync"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/forward"
	"github.com/meshd/meshd/proxy/http2/frame"
	"github.com/meshd/meshd/proxy/http2/session"
)

// A callee is the stream to a peer that one try is made on.
type callee struct {
	*session.Stream
	reused bool
}

var _ forward.Callee = (*callee)(nil)

var callees = sync.Pool{New: func() any { return new(callee) }}

// Call makes a try on a stream that was opened. reused says that its connection
// has carried others before.
func Call(st *session.Stream, reused bool) forward.Callee {
	c := callees.Get().(*callee)
	c.Stream, c.reused = st, reused
	return c
}

func (c *callee) Head(r *exchange.Request, o forward.Onward, end bool) {
	c.SendRequest(r, o.Host, o.ClientID, end)
}

func (c *callee) Response([]byte) (*exchange.Response, error) { return c.Stream.Response() }

func (c *callee) Reused() bool { return c.reused }

func (c *callee) Untouched(err error) bool {
	var reset *session.ResetError
	return errors.As(err, &reset) && reset.Untouched
}

func (c *callee) Abort() { c.Reset(frame.Cancel) }

func (c *callee) Release(bool) { c.Close() }

func (c *callee) Close() {
	c.Stream.Release()
	c.Stream = nil
	callees.Put(c)
}

// Upgrade is not called: requests that ask for it go over HTTP/1.1.
func (c *callee) Upgrade() (net.Conn, []byte) { return session.Raw(c.Stream), nil }
