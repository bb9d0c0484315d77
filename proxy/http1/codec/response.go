package codec

import (
	"bytes"

	"github.com/meshd/meshd/proxy/exchange"
)

// A Response is the head of a response. It can be used again for the next one.
type Response struct {
	exchange.Response
	Hop
}

// Parse reads a head that a Scanner has found.
func (r *Response) Parse(head []byte) error {
	r.Reset()
	r.Hop = Hop{}
	i := bytes.IndexByte(head, '\n')
	if err := r.parseLine(head[:i-1]); err != nil {
		return err
	}
	if err := (reader{&r.Header, &r.Hop}).parse(head[i+1:], false); err != nil {
		return err
	}
	if r.Status == 101 && r.upgrades {
		r.Upgrade = r.protocols
	}
	return nil
}

func (r *Response) parseLine(line []byte) (err error) {
	const status = len("HTTP/1.1 ")
	if len(line) < status+3 || line[status-1] != ' ' {
		return exchange.Bad("the status line is not HTTP/1.1 STATUS REASON")
	}
	if r.minor, err = parseVersion(line[:status-1]); err != nil {
		return err
	}
	n, ok := exchange.Number(line[status : status+3])
	if !ok || n < 100 {
		return exchange.Bad("the status is not a number from 100 to 999")
	}
	r.Status, r.Reason = int(n), nil
	if rest := line[status+3:]; len(rest) > 0 {
		if rest[0] != ' ' || !exchange.All(rest, exchange.ValueByte) {
			return exchange.Bad("the status line has a character that it cannot have")
		}
		r.Reason = rest[1:]
	}
	return nil
}

// Decoder is for what follows the head, given the request's method.
func (r *Response) Decoder(method []byte) Body {
	switch {
	case r.Bodiless(method):
		return Body{done: true}
	case r.Chunked:
		return Body{Framing: Chunked}
	case r.Length >= 0:
		return Body{Framing: Sized, left: r.Length, done: r.Length == 0}
	}
	return Body{Framing: UntilClose}
}
