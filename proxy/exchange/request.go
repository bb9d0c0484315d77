// Package exchange is what there is to know of a call, whatever protocol carries
// it: the heads of requests and responses, and what deciders compare.
package exchange

import (
	"bytes"
	"net/netip"
)

// A Request is the head of a request. Its slices belong to the connection it
// came on and are valid until it is answered.
type Request struct {
	Method []byte
	// Authority is whom the request is for. Only HTTP/1.0 may leave it out.
	Authority []byte
	// Path and Query are the target; Query has its question mark. Path is "*" for
	// OPTIONS about a server as a whole. It is as it was sent until Canonicalize
	// has succeeded.
	Path, Query []byte
	// Expects says that the client waits for a 100 before it sends the body.
	Expects bool
	// Upgrade is the protocols that the client would go over to, or nil. None of
	// them is HTTP or TLS: within these, calls would be hidden from policy.
	Upgrade []byte
	// Body says that there may be a body, be it an empty one.
	Body bool
	Header
}

// Reset prepares for the next request.
func (r *Request) Reset() {
	*r = Request{Header: Header{Fields: r.Fields[:0], Length: -1}}
}

// Idempotent reports whether the method promises that the request can be made
// again without harm.
func (r *Request) Idempotent() bool {
	switch string(r.Method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// Canonicalize replaces the path by its canonical form, which is built in
// scratch. What is matched is what must be forwarded.
func (r *Request) Canonicalize(scratch []byte) error {
	if string(r.Path) == "*" {
		return nil
	}
	path, err := AppendCanonicalPath(scratch[:0], r.Path)
	if err != nil {
		return err
	}
	r.Path = path
	return nil
}

// Onward reports whether a field of the request goes on to the next hop.
func (r *Request) Onward(f *Field) bool {
	return !f.Dropped && (f.Kind == Ordinary || f.Kind == Expect && r.Expects)
}

// CheckMethod refuses lower case: methods are told apart by case, but not by
// all servers, so that a rule about DELETE would miss what they take for it.
func CheckMethod(method []byte) error {
	switch {
	case !IsToken(method):
		return Bad("the method is no token")
	case Some(method, LowerByte):
		return Bad("the method has lower-case letters")
	}
	return nil
}

// SetTarget takes a target that is a path, or * for OPTIONS.
func (r *Request) SetTarget(target []byte) error {
	switch {
	case len(target) == 0 || !All(target, TargetByte):
		return Bad("the target has a character that it cannot have")
	case target[0] == '/':
		return r.splitTarget(target)
	case string(target) != "*":
		return Bad("the target is no path")
	case string(r.Method) != "OPTIONS":
		return Bad("the target is *, but the method is not OPTIONS")
	}
	r.Path, r.Query = target, nil
	return nil
}

func (r *Request) splitTarget(target []byte) error {
	r.Path, r.Query = target, nil
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		r.Path, r.Query = target[:i], target[i:]
	}
	for p := r.Path; ; {
		i := bytes.IndexByte(p, '%')
		if i < 0 {
			return nil
		}
		if p = p[i+1:]; len(p) < 2 || !All(p[:2], HexByte) {
			return Bad("the path has a % that is not followed by two hexadecimal digits")
		}
	}
}

// IsAuthority takes HOST or HOST:PORT.
func IsAuthority(b []byte) bool {
	name, port := b, []byte(nil)
	if i := bytes.LastIndexByte(b, ':'); i >= 0 && bytes.IndexByte(b[i:], ']') < 0 {
		name, port = b[:i], b[i+1:]
		if _, ok := Number(port); !ok || len(port) > 5 {
			return false
		}
	}
	if n := len(name); n > 2 && name[0] == '[' && name[n-1] == ']' {
		ip, err := netip.ParseAddr(string(name[1 : n-1]))
		return err == nil && ip.Is6() && ip.Zone() == ""
	}
	return len(name) > 0 && All(name, HostByte)
}

// TakeExpect notes whether the client waits for a 100. can says that it knows
// how to.
func (r *Request) TakeExpect(can bool) error {
	r.Expects = false
	for i := range r.Fields {
		if r.Fields[i].Kind != Expect {
			continue
		}
		if !Equal(r.Fields[i].Value, "100-continue") || r.Expects {
			return &Error{417, "Expect is something else than 100-continue"}
		}
		r.Expects = true
	}
	// Without a body there is nothing to wait for.
	r.Expects = r.Expects && can && r.Body
	return nil
}

// Upgrades gives the protocols of an Upgrade field that may be gone over to.
func Upgrades(protocols []byte) []byte {
	for list := protocols; len(list) > 0; {
		var p []byte
		if p, list = CutList(list); HasPrefix(p, "h2") || HasPrefix(p, "http/") || HasPrefix(p, "tls/") {
			return nil
		}
	}
	if len(protocols) == 0 {
		return nil
	}
	return protocols
}
