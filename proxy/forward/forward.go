// Package forward leads one request to peers, one after the other if need be,
// and an answer back, whatever protocols carry the two.
package forward

import (
	"net"
	"time"

	"github.com/meshd/meshd/proxy/dispatch"
	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/observe"
)

// A side is what callers and callees have in common: payload comes from one and
// goes to the other. One goroutine may read while another writes. Deadlines are
// those of net.Conn.
type side interface {
	// Next gives more payload that has come, valid until the next call. Unless
	// it may wait, it gives nothing when nothing is there; nor does it at the
	// end.
	Next(wait bool) ([]byte, error)
	// Ended reports whether Next has given all payload there is.
	Ended() bool
	// Trailers are the fields after the payload that may be passed on, as lines
	// of HTTP/1.1, once it has ended.
	Trailers() []byte

	// Gather takes payload to be sent, as much as there is room for until Flush.
	// With end, neither payload nor trailers follow it.
	Gather(payload []byte, end bool) (n int)
	// Flush sends what was gathered, or waits until there is room again.
	Flush() error
	// End ends the payload, with trailers if there are any, and sends all.
	End(trailers []byte) error

	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error

	// Upgrade gives the connection, and what was already read from it, once both
	// sides have gone over to another protocol.
	Upgrade() (c net.Conn, early []byte)
}

// A Caller is where a request comes from.
type Caller interface {
	side
	// Leaves waits until the caller has left, which is an error, or does
	// something else.
	Leaves() error
	// TakesInterim reports whether the caller knows responses before the last.
	TakesInterim() bool
	// Interim sends a response before the last.
	Interim(r *exchange.Response, fromApplication bool) error
	// Answer gathers the head of the answer, or of consent to another protocol.
	Answer(r *exchange.Response, a Answer)
	// Refuse answers in place of an application. drained says that no more of
	// the request will come.
	Refuse(p *observe.Problem, drained bool) error
	// Cut ends an answer in the middle, so that it cannot be taken for complete.
	// err is why.
	Cut(err error)
	// Abort ends all at once.
	Abort()
}

// An Answer says what follows the head of a response.
type Answer struct {
	// Bodiless says that nothing can, whatever the head says about length.
	Bodiless bool
	// End says that nothing does, as it turned out.
	End bool
	// Withheld says that the body of the request may never come.
	Withheld bool
	// FromApplication says that the response has not passed meshd before.
	FromApplication bool
}

// A Callee is a peer that one try is made on.
type Callee interface {
	side
	// Head gathers the head of a request. With end, no body follows it.
	Head(r *exchange.Request, o Onward, end bool)
	// Response waits for the next head that the peer sends. It is valid until
	// the next call.
	Response(method []byte) (*exchange.Response, error)
	// Silent reports whether nothing of an answer has come.
	Silent() bool
	// Reused reports whether the connection has carried calls before.
	Reused() bool
	// Untouched reports whether it is certain that the peer has not dealt with
	// the request, given the error that waiting for an answer ended with.
	Untouched(err error) bool
	// Abort lets the peer know that the request will not be complete.
	Abort()
	// Release gives the connection back for other calls. sent says that the
	// request was sent to its end.
	Release(sent bool)
	// Close ends the call.
	Close()
}

// Onward is what a request is given on its way.
type Onward struct {
	// Host is used if the request names none.
	Host string
	// ClientID is the verified identity of the caller, for an application.
	ClientID string
}

// A Connector connects a try to its peer. A fresh connection has carried no call
// yet.
type Connector func(c *dispatch.Call, fresh bool) (Callee, *observe.Problem)
