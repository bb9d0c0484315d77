package codec

import (
	"bytes"
	"net/netip"
)

// A Request is the head of a request. It can be used again for the next one.
type Request struct {
	Method []byte
	// Path and Query are the target; Query has its question mark. An absolute
	// target's authority is in Authority.
	Path, Query []byte
	// Authority is whom the request is for. Only HTTP/1.0 may leave it out.
	Authority []byte
	// Expects says that the client waits for a 100 before it sends the body.
	Expects bool
	Header
}

// Parse reads a head that a Scanner has found.
func (r *Request) Parse(head []byte) error {
	r.reset()
	i := bytes.IndexByte(head, '\n')
	target, err := r.parseLine(head[:i-1])
	if err != nil {
		return err
	}
	if err := r.parse(head[i+1:], true); err != nil {
		return err
	}
	if err := r.parseHost(); err != nil {
		return err
	}
	if err := r.parseTarget(target); err != nil {
		return err
	}
	return r.parseExpect()
}

func (r *Request) parseLine(line []byte) (target []byte, err error) {
	i := bytes.IndexByte(line, ' ')
	j := bytes.LastIndexByte(line, ' ')
	if i <= 0 || i == j {
		return nil, bad("the request line is not METHOD TARGET HTTP/1.1")
	}
	method, target, version := line[:i], line[i+1:j], line[j+1:]
	if r.minor, err = parseVersion(version); err != nil {
		return nil, err
	}
	if err := checkMethod(method); err != nil {
		return nil, err
	}
	if len(target) == 0 || !all(target, targetByte) {
		return nil, bad("the target has a character that it cannot have")
	}
	r.Method = method
	return target, nil
}

// checkMethod refuses lower case: methods are told apart by case, but not by
// all servers, so that a rule about DELETE would miss what they take for it.
func checkMethod(method []byte) error {
	switch {
	case !isToken(method):
		return bad("the method is no token")
	case some(method, lowerByte):
		return bad("the method has lower-case letters")
	case string(method) == "CONNECT":
		return &Error{501, "CONNECT is not forwarded"}
	}
	return nil
}

func parseVersion(v []byte) (minor byte, err error) {
	if len(v) != len("HTTP/1.1") || string(v[:5]) != "HTTP/" || v[6] != '.' ||
		v[5] < '0' || v[5] > '9' || v[7] < '0' || v[7] > '9' {
		return 0, bad("the version is not HTTP/1.1")
	}
	if v[5] != '1' || v[7] > '1' {
		return 0, &Error{505, "the version is neither HTTP/1.1 nor HTTP/1.0"}
	}
	return v[7] - '0', nil
}

func (r *Request) parseHost() error {
	r.Authority = nil
	switch {
	case r.hosts > 1:
		return bad("Host is given twice")
	case r.hosts == 0 && r.minor == 0:
		return nil
	case r.hosts == 0:
		return bad("there is no Host")
	}
	r.Authority, _ = r.Get("host")
	if !isAuthority(r.Authority) {
		return bad("Host is not the name or address of a host")
	}
	return nil
}

// isAuthority takes HOST or HOST:PORT.
func isAuthority(b []byte) bool {
	name, port := b, []byte(nil)
	if i := bytes.LastIndexByte(b, ':'); i >= 0 && bytes.IndexByte(b[i:], ']') < 0 {
		name, port = b[:i], b[i+1:]
		if _, ok := number(port); !ok || len(port) > 5 {
			return false
		}
	}
	if n := len(name); n > 2 && name[0] == '[' && name[n-1] == ']' {
		ip, err := netip.ParseAddr(string(name[1 : n-1]))
		return err == nil && ip.Is6() && ip.Zone() == ""
	}
	return len(name) > 0 && all(name, hostByte)
}

func (r *Request) parseTarget(target []byte) error {
	switch {
	case target[0] == '/':
		return r.splitTarget(target)
	case string(target) == "*":
		if string(r.Method) != "OPTIONS" {
			return bad("the target is *, but the method is not OPTIONS")
		}
		r.Path, r.Query = target, nil
		return nil
	case hasPrefix(target, "http://"):
		return r.parseAbsolute(target[len("http://"):])
	}
	return bad("the target is no path")
}

func (r *Request) parseAbsolute(target []byte) error {
	i := bytes.IndexAny(target, "/?")
	if i < 0 {
		i = len(target)
	}
	authority := target[:i]
	if !isAuthority(authority) {
		return bad("the target's authority is not the name or address of a host")
	}
	if r.Authority != nil && !equalFold(authority, r.Authority) {
		return bad("Host is not the authority of the target")
	}
	r.Authority = authority
	if i < len(target) && target[i] == '/' {
		return r.splitTarget(target[i:])
	}
	r.Path, r.Query = slash, target[i:]
	if i == len(target) && string(r.Method) == "OPTIONS" {
		r.Path = asterisk
	}
	return nil
}

var slash, asterisk = []byte("/"), []byte("*")

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
		if p = p[i+1:]; len(p) < 2 || !all(p[:2], hexByte) {
			return bad("the path has a % that is not followed by two hexadecimal digits")
		}
	}
}

func (r *Request) parseExpect() error {
	r.Expects = false
	for i := range r.Fields {
		if r.Fields[i].kind != expect {
			continue
		}
		if !equal(r.Fields[i].Value, "100-continue") || r.Expects {
			return &Error{417, "Expect is something else than 100-continue"}
		}
		r.Expects = true
	}
	// Who speaks HTTP/1.0 does not know it, and without a body there is nothing
	// to wait for.
	if r.minor == 0 || !r.Chunked && r.Length <= 0 {
		r.Expects = false
	}
	return nil
}

// Upgrade is the protocols that the client would go over to, or nil. None of
// them may be HTTP or TLS: within these, calls would be hidden from policy.
func (r *Request) Upgrade() []byte {
	if !r.upgrades || r.minor == 0 || len(r.protocols) == 0 {
		return nil
	}
	for list := r.protocols; len(list) > 0; {
		var p []byte
		if p, list = cutList(list); hasPrefix(p, "h2") || hasPrefix(p, "http/") || hasPrefix(p, "tls/") {
			return nil
		}
	}
	return r.protocols
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

// Body is the decoder for what follows the head.
func (r *Request) Body() Body {
	switch {
	case r.Chunked:
		return Body{Framing: Chunked}
	case r.Length > 0:
		return Body{Framing: Sized, left: r.Length}
	}
	return Body{done: true}
}
