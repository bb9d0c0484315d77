// Package message is what the fields of HTTP/2 say: requests, responses and
// trailers, as RFC 9113, section 8, has them.
package message

import (
	"bytes"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/http2/hpack"
)

// A Malformed message is a reason to reset its stream. What is wrong in another
// way is an exchange.Error, which can be answered.
type Malformed string

func (m Malformed) Error() string { return "the message is malformed: " + string(m) }

const (
	errUnknown    = Malformed("a pseudo-header field is not known or stands where it may not")
	errTwice      = Malformed("a pseudo-header field is given twice")
	errMissing    = Malformed("a pseudo-header field is missing or empty")
	errName       = Malformed("the name of a field has a character that it cannot have")
	errValue      = Malformed("the value of a field has a character that it cannot have")
	errConnection = Malformed("a field is about one connection, and HTTP/2 has none of these")
	errTE         = Malformed("TE is something else than trailers")
	errLength     = Malformed("content-length is not a number, is given twice, or is not what follows")
	errHost       = Malformed("host is not :authority")
	errStatus     = Malformed("the status is no number from 100 to 999, or 101")
)

var errTooLarge = &exchange.Error{Status: 431, Reason: "the header is larger than 64 KiB, has more than 100 fields or one of more than 8 KiB"}

// takeField takes a field that is no pseudo-header field.
func takeField(h *exchange.Header, f *hpack.Field, request bool) error {
	if len(f.Name) == 0 || !isName(f.Name) {
		return errName
	}
	if !isValue(f.Value) {
		return errValue
	}
	kind := exchange.KindOf(f.Name)
	dropped := false
	switch kind {
	case exchange.Connection, exchange.TransferEncoding, exchange.Upgrade:
		return errConnection
	case exchange.Hop:
		if string(f.Name) == "keep-alive" || string(f.Name) == "proxy-connection" {
			return errConnection
		}
		dropped = true
	case exchange.TE:
		if !exchange.Equal(f.Value, "trailers") {
			return errTE
		}
		h.Trailers = true
	case exchange.ContentLength:
		if h.TakeLength(f.Value) != nil {
			return errLength
		}
	case exchange.Ordinary:
		kind = exchange.Classify(f.Name, request)
		dropped = kind == exchange.Reserved
	}
	h.Fields = append(h.Fields, exchange.Field{Name: f.Name, Value: f.Value, Kind: kind, Dropped: dropped, Sensitive: f.Sensitive})
	return nil
}

func isName(name []byte) bool {
	for _, c := range name {
		if exchange.Class[c]&exchange.TokenByte == 0 || c >= 'A' && c <= 'Z' {
			return false
		}
	}
	return true
}

// isValue refuses white space around values: HTTP/1.1 would lose it.
func isValue(value []byte) bool {
	if n := len(value); n > 0 && (isSpace(value[0]) || isSpace(value[n-1])) {
		return false
	}
	return exchange.All(value, exchange.ValueByte)
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// TakeTrailers appends those trailers that may be passed on, as lines of
// HTTP/1.1.
func TakeTrailers(dst []byte, b *hpack.Block) ([]byte, error) {
	if b.TooLarge {
		return dst, errTooLarge
	}
	for i := range b.Fields {
		f := &b.Fields[i]
		switch {
		case len(f.Name) == 0 || f.Name[0] == ':':
			return dst, errUnknown
		case !isName(f.Name):
			return dst, errName
		case !isValue(f.Value):
			return dst, errValue
		case exchange.MayTrail(f.Name):
			dst = append(append(dst, f.Name...), ": "...)
			dst = append(append(dst, f.Value...), "\r\n"...)
		}
	}
	return dst, nil
}

// joinCookies makes one field of cookies that were sent apart to compress them
// better.
func joinCookies(h *exchange.Header) {
	var first *exchange.Field
	for i := range h.Fields {
		f := &h.Fields[i]
		switch {
		case string(f.Name) != "cookie":
		case len(f.Value) == 0:
			f.Dropped = true
		case first == nil:
			first = f
		default:
			first.Value = bytes.Join([][]byte{first.Value, f.Value}, []byte("; "))
			first.Sensitive = first.Sensitive || f.Sensitive
			f.Dropped = true
		}
	}
}
