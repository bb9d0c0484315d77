package http1

import (
	"bytes"
	"errors"
	"io"
	"net"
	"time"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/forward"
	"github.com/meshd/meshd/proxy/http1/codec"
	"github.com/meshd/meshd/proxy/observe"
	"github.com/meshd/meshd/proxy/relay"
)

// enough is how much is gathered before it is written.
const enough = 16 << 10

// errGone says that a caller has left before it was answered.
var errGone = errors.New("the caller has left")

// A caller is a request on its connection. It is used again for the next one.
type caller struct {
	*Conn
	request codec.Request
	body    codec.Body
	out     []byte // borrowed
	framing codec.Framing

	keeps    bool // the connection is to go on after the answer
	complete bool // which was sent to its end
	lingers  bool // it ends while the caller may still be sending
}

var _ forward.Caller = (*caller)(nil)

func (c *caller) reset() {
	*c = caller{Conn: c.Conn, request: c.request, out: borrow()}
	c.request.Request.Reset()
	c.request.Hop = codec.Hop{}
	c.body = c.request.Decoder()
}

// release gives back what is needed only for the time of a request.
func (c *caller) release() {
	c.in.forget()
	c.releaseOut()
}

func (c *caller) releaseOut() {
	if c.out != nil {
		giveBack(c.out)
		c.out = nil
	}
}

func (c *caller) parse(head []byte) *observe.Problem {
	if err := c.request.Parse(head); err != nil {
		return forward.RequestProblem(err)
	}
	c.body = c.request.Decoder()
	return nil
}

// again reports whether another request may follow.
func (c *caller) again() bool {
	c.lingers = !c.body.Done()
	return c.keeps && c.complete && !c.lingers
}

// persists reports whether the connection goes on after this request, as far as
// can be told before its body has come.
func (c *caller) persists() bool { return c.request.Persists() && c.lasts() }

func (c *caller) Next(wait bool) ([]byte, error) {
	for !c.body.Done() {
		payload, n, err := c.body.Next(c.in.bytes())
		if err != nil {
			return nil, err
		}
		c.in.take(n)
		if len(payload) > 0 {
			return payload, nil
		}
		if c.body.Done() || !wait {
			break
		}
		if err := c.in.fill(); err != nil {
			return nil, cutShort(err)
		}
	}
	return nil, nil
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *caller) Ended() bool { return c.body.Done() }

func (c *caller) Trailers() []byte { return c.body.Trailers() }

// Leaves does not care for more requests, or the end of them.
func (c *caller) Leaves() error {
	err := c.in.fill()
	if err == nil || errors.Is(err, errFull) || errors.Is(err, io.EOF) && !c.Link {
		return nil
	}
	return errGone
}

func (c *caller) TakesInterim() bool { return c.request.Minor() > 0 }

func (c *caller) Interim(r *exchange.Response, fromApplication bool) error {
	c.out = codec.AppendResponse(c.out, r, codec.Back{Reason: reason(r.Status), FromApplication: fromApplication})
	return c.Flush()
}

// Answer finds out how the body is to be framed, and with it whether the
// connection goes on.
func (c *caller) Answer(r *exchange.Response, a forward.Answer) {
	c.keeps = c.persists() && !a.Withheld && r.Status != 101
	c.framing = codec.Chunked
	switch {
	case a.Bodiless:
		c.framing = codec.NoBody
	case !a.End && r.Announces() && c.request.Minor() == 1:
		// HTTP/2 may say both how long a body is, and what comes after it.
	case r.Length >= 0:
		c.framing = codec.Sized
	case a.End:
		c.framing, r.Length = codec.Sized, 0
	case c.request.Minor() == 0:
		c.framing, c.keeps = codec.UntilClose, false
	}
	c.out = codec.AppendResponse(c.out, r, codec.Back{
		Framing:         c.framing,
		Reason:          reason(r.Status),
		Close:           c.request.Minor() == 1 && !c.keeps,
		KeepAlive:       c.request.Minor() == 0 && c.keeps,
		FromApplication: a.FromApplication,
	})
}

func (c *caller) Gather(payload []byte, _ bool) (n int) {
	c.out, n = gather(c.out, payload, c.framing == codec.Chunked)
	return n
}

// gather appends payload up to the limit of what is gathered.
func gather(out, payload []byte, chunked bool) ([]byte, int) {
	if len(out) >= enough {
		return out, 0
	}
	piece := payload[:min(len(payload), enough)]
	if chunked {
		return codec.AppendChunk(out, piece), len(piece)
	}
	return append(out, piece...), len(piece)
}

func (c *caller) Flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.Conn.Caller.Write(c.out)
	c.out = c.out[:0]
	return err
}

func (c *caller) End(trailers []byte) error {
	if c.framing == codec.Chunked {
		c.out = codec.AppendEnd(c.out, trailers)
	}
	err := c.Flush()
	c.complete = err == nil
	return err
}

func (c *caller) Refuse(p *observe.Problem, drained bool) error {
	c.keeps = drained && c.persists()
	c.out = appendRefusal(c.out[:0], p, string(c.request.Method) == "HEAD", c.keeps, c.request.Minor() == 0)
	err := c.Flush()
	c.complete = err == nil
	return err
}

// Cut has the caller notice: by what is missing of the body, or by a reset where
// its end is the end of the connection.
func (c *caller) Cut(error) {
	c.Flush()
	if c.framing == codec.UntilClose {
		c.Abort()
	}
}

func (c *caller) Abort() { relay.Abort(c.Conn.Caller) }

func (c *caller) Upgrade() (net.Conn, []byte) {
	early := bytes.Clone(c.in.bytes())
	c.in.release()
	c.releaseOut()
	return c.Conn.Caller, early
}

func (c *caller) SetReadDeadline(t time.Time) error  { return c.Conn.Caller.SetReadDeadline(t) }
func (c *caller) SetWriteDeadline(t time.Time) error { return c.Conn.Caller.SetWriteDeadline(t) }
