package message

import (
	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/http2/hpack"
)

// pseudo are the fields of a request that begin with a colon.
type pseudo struct {
	method, scheme, authority, path, protocol []byte
}

func (p *pseudo) take(f *hpack.Field) error {
	var to *[]byte
	switch string(f.Name) {
	case ":method":
		to = &p.method
	case ":scheme":
		to = &p.scheme
	case ":authority":
		to = &p.authority
	case ":path":
		to = &p.path
	case ":protocol":
		to = &p.protocol
	default:
		return errUnknown
	}
	switch {
	case *to != nil:
		return errTwice
	case len(f.Value) == 0:
		return errMissing
	case !exchange.All(f.Value, exchange.ValueByte):
		return errValue
	}
	*to = f.Value
	return nil
}

// check refuses what is not complete, or more than that.
func (p *pseudo) check() error {
	connect := string(p.method) == "CONNECT"
	switch {
	case p.method == nil:
		return errMissing
	case connect && p.protocol == nil:
		if p.scheme != nil || p.path != nil {
			return errUnknown
		}
		if p.authority == nil {
			return errMissing
		}
		return &exchange.Error{Status: 501, Reason: "CONNECT is not forwarded"}
	case p.protocol != nil && (!connect || p.authority == nil):
		return errUnknown
	case p.scheme == nil || p.path == nil:
		return errMissing
	}
	return nil
}

// TakeRequest reads a request. With end, no body follows. CONNECT with a
// protocol (RFC 8441) is read as what it is in HTTP/1.1: a GET that asks for an
// upgrade.
func TakeRequest(b *hpack.Block, r *exchange.Request, end bool) error {
	r.Reset()
	var p pseudo
	if err := takeFields(b, r, &p); err != nil {
		return err
	}
	if b.TooLarge {
		return errTooLarge
	}
	if err := p.check(); err != nil {
		r.Method = p.method
		return err
	}
	r.Method = p.method
	if p.protocol != nil {
		r.Method, r.Upgrade = methodGet, exchange.Upgrades(p.protocol)
		if r.Upgrade == nil {
			return &exchange.Error{Status: 501, Reason: "no such protocol is carried"}
		}
	}
	if err := takeBody(r, end); err != nil {
		return err
	}
	return takeTarget(r, &p)
}

var methodGet = []byte("GET")

func takeFields(b *hpack.Block, r *exchange.Request, p *pseudo) error {
	cookies := 0
	for i := range b.Fields {
		f := &b.Fields[i]
		if len(f.Name) > 0 && f.Name[0] == ':' {
			if len(r.Fields) > 0 {
				return errUnknown
			}
			if err := p.take(f); err != nil {
				return err
			}
			continue
		}
		if string(f.Name) == "cookie" {
			cookies++
		}
		if err := takeField(&r.Header, f, true); err != nil {
			return err
		}
	}
	if cookies > 1 {
		joinCookies(&r.Header)
	}
	return nil
}

// takeBody finds out whether a body follows. Where one is to be expected, that
// there is none is said.
func takeBody(r *exchange.Request, end bool) error {
	r.Body = !end
	switch {
	case r.Upgrade != nil:
		r.Body, r.Length = false, -1
	case end && r.Length > 0:
		return errLength
	case end && (string(r.Method) == "POST" || string(r.Method) == "PUT" || string(r.Method) == "PATCH"):
		r.Length = 0
	}
	return r.TakeExpect(true)
}

// takeTarget finds out what is asked for, and of whom.
func takeTarget(r *exchange.Request, p *pseudo) error {
	if err := exchange.CheckMethod(r.Method); err != nil {
		return err
	}
	if !exchange.Equal(p.scheme, "http") && !exchange.Equal(p.scheme, "https") {
		return exchange.Bad("the scheme is neither http nor https")
	}
	r.Authority = p.authority
	for i := range r.Fields {
		f := &r.Fields[i]
		switch {
		case f.Kind != exchange.Host:
		case r.Authority == nil:
			r.Authority = f.Value
		case !exchange.EqualFold(r.Authority, f.Value):
			return errHost
		}
	}
	if r.Authority != nil && !exchange.IsAuthority(r.Authority) {
		return exchange.Bad(":authority is not the name or address of a host")
	}
	return r.SetTarget(p.path)
}
