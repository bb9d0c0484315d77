package http2

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/forward"
	"github.com/meshd/meshd/proxy/http2/frame"
	"github.com/meshd/meshd/proxy/http2/session"
	"github.com/meshd/meshd/proxy/observe"
)

// A caller is a request on its stream. It is used again for others.
type caller struct {
	*session.Stream
	exchange forward.Exchange
	link     bool
	grpc     bool // the request is a gRPC call
	swallow  bool // the answer is complete, whatever else comes
	response exchange.Response
}

var _ forward.Caller = (*caller)(nil)

func (c *caller) begin(st *session.Stream) {
	c.Stream, c.swallow = st, false
	c.grpc = st.Request.IsGRPC()
	if exchange.Equal(st.Request.Upgrade, "websocket") {
		addKey(&st.Request)
	}
}

// addKey adds what WebSocket over HTTP/1.1 has and over HTTP/2 has not: there is
// no cache in between that it would have to deceive.
func addKey(r *exchange.Request) {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.AppendEncode(nil, nonce[:])
	r.Fields = append(r.Fields, exchange.Field{Name: []byte("sec-websocket-key"), Value: key})
}

// Ended holds for what is to become another protocol from the start: what
// follows is of that.
func (c *caller) Ended() bool { return c.Request.Upgrade != nil || c.Stream.Ended() }

func (c *caller) TakesInterim() bool { return true }

func (c *caller) Interim(r *exchange.Response, fromApplication bool) error {
	c.SendResponse(r, fromApplication, false)
	return c.Flush()
}

// Answer begins the answer. What another agent says in place of an application,
// gRPC clients are told in their own terms.
func (c *caller) Answer(r *exchange.Response, a forward.Answer) {
	if r.Status == 101 {
		// What is an upgrade in HTTP/1.1 is CONNECT here (RFC 8441).
		r.Status, r.Length = 200, -1
		for i := range r.Fields {
			f := &r.Fields[i]
			f.Dropped = f.Dropped || exchange.Equal(f.Name, "sec-websocket-accept")
		}
	}
	if code := refusal(r, a); c.grpc && !c.link && code != nil {
		c.swallow = true
		c.sendStatus(code, code.Sentence)
		return
	}
	c.SendResponse(r, a.FromApplication, a.End || a.Bodiless)
}

// refusal is why another agent has answered in place of the application, if it
// has.
func refusal(r *exchange.Response, a forward.Answer) *observe.Code {
	if a.FromApplication {
		return nil
	}
	name, ok := r.Get("meshd-error")
	if !ok {
		return nil
	}
	return observe.Lookup(string(name))
}

func (c *caller) Gather(payload []byte, end bool) int {
	if c.swallow {
		return len(payload)
	}
	return c.Stream.Gather(payload, end)
}

func (c *caller) Refuse(p *observe.Problem, _ bool) error {
	if c.grpc && !c.link {
		c.sendStatus(p.Code, p.Sentence())
		return c.End(nil)
	}
	text := []byte(p.Sentence())
	head := string(c.Request.Method) == "HEAD"
	c.sendRefusal(p.Code, int64(len(text)), head)
	for !head && len(text) > 0 {
		n := c.Gather(text, true)
		if err := c.Flush(); err != nil {
			return err
		}
		text = text[n:]
	}
	return c.End(nil)
}

// sendRefusal sends the head of an answer in place of an application's.
func (c *caller) sendRefusal(code *observe.Code, length int64, end bool) {
	r := &c.response
	r.Reset()
	r.Status, r.Length = code.Status, length
	addField(r, "meshd-error", code.Name)
	addField(r, "content-type", "text/plain; charset=utf-8")
	c.SendResponse(r, false, end)
}

// sendStatus ends a gRPC call with a status, without a message.
func (c *caller) sendStatus(code *observe.Code, sentence string) {
	r := &c.response
	r.Reset()
	r.Status = 200
	addField(r, "content-type", "application/grpc")
	addField(r, "grpc-status", grpcStatus(code))
	addField(r, "grpc-message", grpcMessage(sentence))
	addField(r, "meshd-error", code.Name)
	c.SendResponse(r, false, true)
}

func addField(r *exchange.Response, name, value string) {
	r.Fields = append(r.Fields, exchange.Field{Name: []byte(name), Value: []byte(value)})
}

// Cut resets the stream, as the peer has done if it has.
func (c *caller) Cut(err error) {
	var reset *session.ResetError
	code := frame.InternalError
	if errors.As(err, &reset) && reset.Err == nil && reset.Code != frame.NoError {
		code = reset.Code
	}
	c.Reset(code)
}

func (c *caller) Abort() { c.Reset(frame.Cancel) }

func (c *caller) Upgrade() (net.Conn, []byte) { return session.Raw(c.Stream), nil }
