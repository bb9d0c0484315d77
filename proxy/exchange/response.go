package exchange

// A Response is the head of a response.
type Response struct {
	Status int
	Reason []byte // if one was given
	// Upgrade is the protocol that the server goes over to, with status 101.
	Upgrade []byte
	Header
}

// Reset prepares for the next response.
func (r *Response) Reset() {
	*r = Response{Header: Header{Fields: r.Fields[:0], Length: -1}}
}

// Interim reports whether another response follows.
func (r *Response) Interim() bool { return r.Status < 200 && r.Status != 101 }

// Bodiless reports whether no body follows, given the request's method and
// whatever else is said.
func (r *Response) Bodiless(method []byte) bool {
	return string(method) == "HEAD" || r.Status < 200 || r.Status == 204 || r.Status == 304
}

// Accepts reports whether this is the server's consent to go over to one of the
// protocols that a request asked for.
func (r *Response) Accepts(protocols []byte) bool {
	if r.Status != 101 || len(r.Upgrade) == 0 {
		return false
	}
	for len(protocols) > 0 {
		var p []byte
		if p, protocols = CutList(protocols); EqualFold(p, r.Upgrade) {
			return true
		}
	}
	return false
}

// Back reports whether a field of the response goes back to the caller. What an
// application says in meshd's name is not true.
func (r *Response) Back(f *Field, fromApplication bool) bool {
	switch f.Kind {
	case Ordinary, Expect, Host:
		return !f.Dropped
	case Meshd:
		return !f.Dropped && !fromApplication
	}
	return false
}
