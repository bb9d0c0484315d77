package http1

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/forward"
	"github.com/meshd/meshd/proxy/http1/codec"
	"github.com/meshd/meshd/proxy/pool"
)

// A callee is the connection to a peer that one try is made on.
type callee struct {
	conn     *pool.Conn
	in       input
	out      []byte // borrowed
	chunked  bool
	writeErr error
	scanner  codec.Scanner
	response codec.Response
	body     codec.Body
}

var _ forward.Callee = (*callee)(nil)

// callees are kept for the memory that they have gathered.
var callees = sync.Pool{New: func() any { return new(callee) }}

// Call makes a try on a connection.
func Call(c *pool.Conn) forward.Callee {
	u := callees.Get().(*callee)
	*u = callee{conn: c, in: input{conn: c}, out: borrow(), response: u.response}
	return u
}

func (u *callee) Head(r *exchange.Request, o forward.Onward, _ bool) {
	if u.conn.Reused && !r.Idempotent() {
		u.conn.Mark()
	}
	// HTTP/2 may say both how long a body is, and what comes after it.
	u.chunked = r.Body && (r.Length < 0 || r.Announces())
	u.out = codec.AppendRequest(u.out, r, codec.Onward{Host: o.Host, ClientID: o.ClientID, Chunked: u.chunked})
}

func (u *callee) Gather(payload []byte, _ bool) (n int) {
	u.out, n = gather(u.out, payload, u.chunked)
	return n
}

// Flush does nothing once it has failed.
func (u *callee) Flush() error {
	if u.writeErr == nil && len(u.out) > 0 {
		_, u.writeErr = u.conn.Write(u.out)
	}
	u.out = u.out[:0]
	return u.writeErr
}

func (u *callee) End(trailers []byte) error {
	if u.chunked {
		u.out = codec.AppendEnd(u.out, trailers)
	}
	return u.Flush()
}

// Response goes on where it was when a deadline was met.
func (u *callee) Response(method []byte) (*exchange.Response, error) {
	for {
		head, n, err := u.scanner.Response(u.in.bytes())
		if err != nil {
			return nil, err
		}
		if n > 0 {
			return u.take(head, n, method)
		}
		if err := u.in.fill(); errors.Is(err, errFull) {
			u.in.grow()
		} else if err != nil {
			return nil, err
		}
	}
}

func (u *callee) take(head []byte, n int, method []byte) (*exchange.Response, error) {
	u.in.take(n)
	u.scanner = codec.Scanner{}
	if err := u.response.Parse(head); err != nil {
		return nil, err
	}
	u.body = u.response.Decoder(method)
	return &u.response.Response, nil
}

func (u *callee) Silent() bool { return u.in.empty() }

func (u *callee) Reused() bool { return u.conn.Reused }

func (u *callee) Untouched(err error) bool { return u.conn.Untouched(err, u.writeErr) }

func (u *callee) Next(wait bool) ([]byte, error) {
	for !u.body.Done() {
		payload, n, err := u.body.Next(u.in.bytes())
		if err != nil {
			return nil, err
		}
		u.in.take(n)
		if len(payload) > 0 {
			return payload, nil
		}
		if u.body.Done() || !wait {
			break
		}
		if err := u.in.fill(); errors.Is(err, io.EOF) {
			if err := u.body.Close(); err != nil {
				return nil, err
			}
		} else if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (u *callee) Ended() bool { return u.body.Done() }

func (u *callee) Trailers() []byte { return u.body.Trailers() }

func (u *callee) Abort() { u.conn.Abort() }

func (u *callee) Release(sent bool) {
	if sent && u.body.Framing != codec.UntilClose && u.response.Persists() && u.in.empty() {
		c := u.conn
		u.recycle()
		c.Release()
		return
	}
	u.Close()
}

func (u *callee) Close() {
	u.conn.Close()
	u.recycle()
}

func (u *callee) recycle() {
	u.in.release()
	if u.out != nil {
		giveBack(u.out)
	}
	*u = callee{response: u.response}
	callees.Put(u)
}

func (u *callee) Upgrade() (net.Conn, []byte) {
	early := bytes.Clone(u.in.bytes())
	u.in.release()
	giveBack(u.out)
	u.out = nil
	return u.conn.Conn, early
}

func (u *callee) SetReadDeadline(t time.Time) error  { return u.conn.SetReadDeadline(t) }
func (u *callee) SetWriteDeadline(t time.Time) error { return u.conn.SetWriteDeadline(t) }
