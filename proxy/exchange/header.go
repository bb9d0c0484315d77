package exchange

import (
	"bytes"
	"fmt"
)

// Limits of a head, whatever protocol carries it.
const (
	MaxHead   = 64 << 10 // bytes
	MaxField  = 8 << 10  // bytes of one field
	MaxFields = 100
)

// An Error is why a message is refused.
type Error struct {
	Status int // that a request is answered with
	Reason string
}

func (e *Error) Error() string { return e.Reason }

// Bad is an error of whoever wrote the message.
func Bad(reason string) error { return &Error{400, reason} }

// Badf is Bad with a format.
func Badf(format string, args ...any) error { return &Error{400, fmt.Sprintf(format, args...)} }

// A Field is one header field.
type Field struct {
	Name, Value []byte
	Kind        Kind
	Dropped     bool // it is about this hop only
	Sensitive   bool // it must not be kept in tables of compression
}

// A Kind is what is known about a field's name.
type Kind uint8

const (
	Ordinary Kind = iota
	Host
	ContentLength
	TransferEncoding
	Connection
	TE
	Upgrade
	Expect
	Trailer  // announces fields after the body
	Hop      // about one hop, and of no use to the next
	Reserved // says something that only meshd may say
	Meshd    // the same, by meshd's own name
)

// KindOf tells fields about hops and framing from others.
func KindOf(name []byte) Kind {
	switch len(name) {
	case 2:
		return is(name, "te", TE)
	case 4:
		return is(name, "host", Host)
	case 6:
		return is(name, "expect", Expect)
	case 7:
		if Equal(name, "trailer") {
			return Trailer
		}
		return is(name, "upgrade", Upgrade)
	case 10:
		if Equal(name, "keep-alive") {
			return Hop
		}
		return is(name, "connection", Connection)
	case 14:
		if Equal(name, "http2-settings") {
			return Hop
		}
		return is(name, "content-length", ContentLength)
	case 16:
		return is(name, "proxy-connection", Hop)
	case 17:
		return is(name, "transfer-encoding", TransferEncoding)
	}
	return Ordinary
}

func is(name []byte, lower string, k Kind) Kind {
	if Equal(name, lower) {
		return k
	}
	return Ordinary
}

// Classify finds, among ordinary names, those by which proxies speak of a
// caller's identity, of this mesh and of others.
func Classify(name []byte, request bool) Kind {
	switch {
	case HasPrefix(name, "meshd-"):
		return Meshd
	case !request:
		return Ordinary
	case HasPrefix(name, "x-forwarded-client-cert"), HasPrefix(name, "x-envoy-"), HasPrefix(name, "l5d-"):
		return Reserved
	case bytes.IndexByte(name, '_') >= 0:
		// Many servers take - and _ for the same, so that such a name could
		// stand in for any other.
		return Reserved
	}
	return Ordinary
}

// A Header is the fields of a message and what they say about it.
type Header struct {
	Fields []Field
	// Length is what content-length says, or -1.
	Length int64
	// Trailers says that whoever sent this takes trailers.
	Trailers bool
}

// TakeLength notes what content-length says.
func (h *Header) TakeLength(value []byte) error {
	n, ok := Number(value)
	if !ok {
		return Bad("Content-Length is not a number")
	}
	if h.Length >= 0 {
		return Bad("Content-Length is given twice")
	}
	h.Length = n
	return nil
}

// Has reports whether there is a field of that name, in lower case, with
// exactly that value. What is not passed on is not found.
func (h *Header) Has(name, value string) bool {
	for i := range h.Fields {
		f := &h.Fields[i]
		if !f.Dropped && f.Kind != Meshd && Equal(f.Name, name) && string(f.Value) == value {
			return true
		}
	}
	return false
}

// Get returns the value of the first field of that name, in lower case.
func (h *Header) Get(name string) (value []byte, ok bool) {
	for i := range h.Fields {
		if Equal(h.Fields[i].Name, name) {
			return h.Fields[i].Value, true
		}
	}
	return nil, false
}

// Announces reports whether fields after the body are announced.
func (h *Header) Announces() bool {
	for i := range h.Fields {
		if h.Fields[i].Kind == Trailer {
			return true
		}
	}
	return false
}

// IsGRPC reports whether this is a message of gRPC.
func (h *Header) IsGRPC() bool {
	value, _ := h.Get("content-type")
	const name = "application/grpc"
	return HasPrefix(value, name) && (len(value) == len(name) || value[len(name)] == '+' || value[len(name)] == ';')
}

// MayTrail leaves out what must be known before the body, and what must not be
// said once checks are over. name may be in any case.
func MayTrail(name []byte) bool {
	for _, prefix := range [...]string{"meshd-", "x-forwarded-", "x-envoy-", "l5d-", "proxy-", "if-", "sec-", "access-control-"} {
		if HasPrefix(name, prefix) {
			return false
		}
	}
	for _, forbidden := range [...]string{
		"authorization", "www-authenticate", "authentication-info", "cookie", "set-cookie", "origin", "forwarded", "via",
		"content-encoding", "content-type", "content-range", "content-location", "content-disposition", "content-language",
		"cache-control", "max-forwards", "pragma", "range", "age", "date", "expires", "location", "retry-after", "vary", "warning",
	} {
		if Equal(name, forbidden) {
			return false
		}
	}
	return bytes.IndexByte(name, '_') < 0 && KindOf(name) == Ordinary
}
