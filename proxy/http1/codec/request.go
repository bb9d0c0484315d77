package codec

import (
	"bytes"

	"github.com/meshd/meshd/proxy/exchange"
)

// A Request is the head of a request. It can be used again for the next one.
type Request struct {
	exchange.Request
	Hop
}

// Parse reads a head that a Scanner has found.
func (r *Request) Parse(head []byte) error {
	r.Reset()
	r.Hop = Hop{}
	i := bytes.IndexByte(head, '\n')
	target, err := r.parseLine(head[:i-1])
	if err != nil {
		return err
	}
	if err := (reader{&r.Header, &r.Hop}).parse(head[i+1:], true); err != nil {
		return err
	}
	if err := r.parseHost(); err != nil {
		return err
	}
	if err := r.parseTarget(target); err != nil {
		return err
	}
	r.Body = r.Chunked || r.Length > 0
	if r.upgrades && r.minor > 0 {
		r.Upgrade = exchange.Upgrades(r.protocols)
	}
	return r.TakeExpect(r.minor > 0)
}

func (r *Request) parseLine(line []byte) (target []byte, err error) {
	i := bytes.IndexByte(line, ' ')
	j := bytes.LastIndexByte(line, ' ')
	if i <= 0 || i == j {
		return nil, exchange.Bad("the request line is not METHOD TARGET HTTP/1.1")
	}
	method, target, version := line[:i], line[i+1:j], line[j+1:]
	if r.minor, err = parseVersion(version); err != nil {
		return nil, err
	}
	if err := checkMethod(method); err != nil {
		return nil, err
	}
	if len(target) == 0 || !exchange.All(target, exchange.TargetByte) {
		return nil, exchange.Bad("the target has a character that it cannot have")
	}
	r.Method = method
	return target, nil
}

func checkMethod(method []byte) error {
	if string(method) == "CONNECT" {
		return &exchange.Error{Status: 501, Reason: "CONNECT is not forwarded"}
	}
	return exchange.CheckMethod(method)
}

func parseVersion(v []byte) (minor byte, err error) {
	if len(v) != len("HTTP/1.1") || string(v[:5]) != "HTTP/" || v[6] != '.' ||
		v[5] < '0' || v[5] > '9' || v[7] < '0' || v[7] > '9' {
		return 0, exchange.Bad("the version is not HTTP/1.1")
	}
	if v[5] != '1' || v[7] > '1' {
		return 0, &exchange.Error{Status: 505, Reason: "the version is neither HTTP/1.1 nor HTTP/1.0"}
	}
	return v[7] - '0', nil
}

func (r *Request) parseHost() error {
	r.Authority = nil
	switch {
	case r.hosts > 1:
		return exchange.Bad("Host is given twice")
	case r.hosts == 0 && r.minor == 0:
		return nil
	case r.hosts == 0:
		return exchange.Bad("there is no Host")
	}
	r.Authority, _ = r.Get("host")
	if !exchange.IsAuthority(r.Authority) {
		return exchange.Bad("Host is not the name or address of a host")
	}
	return nil
}

func (r *Request) parseTarget(target []byte) error {
	if exchange.HasPrefix(target, "http://") {
		return r.parseAbsolute(target[len("http://"):])
	}
	return r.SetTarget(target)
}

func (r *Request) parseAbsolute(target []byte) error {
	i := bytes.IndexAny(target, "/?")
	if i < 0 {
		i = len(target)
	}
	authority := target[:i]
	if !exchange.IsAuthority(authority) {
		return exchange.Bad("the target's authority is not the name or address of a host")
	}
	if r.Authority != nil && !exchange.EqualFold(authority, r.Authority) {
		return exchange.Bad("Host is not the authority of the target")
	}
	r.Authority = authority
	if i < len(target) && target[i] == '/' {
		return r.SetTarget(target[i:])
	}
	r.Path, r.Query = slash, target[i:]
	if i == len(target) && string(r.Method) == "OPTIONS" {
		r.Path = asterisk
	}
	return nil
}

var slash, asterisk = []byte("/"), []byte("*")

// Decoder is for what follows the head.
func (r *Request) Decoder() Body {
	switch {
	case r.Chunked:
		return Body{Framing: Chunked}
	case r.Length > 0:
		return Body{Framing: Sized, left: r.Length}
	}
	return Body{done: true}
}
