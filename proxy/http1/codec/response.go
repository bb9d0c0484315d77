package codec

import "bytes"

// A Response is the head of a response. It can be used again for the next one.
type Response struct {
	Status int
	Reason []byte
	Header
}

// Parse reads a head that a Scanner has found.
func (r *Response) Parse(head []byte) error {
	r.reset()
	i := bytes.IndexByte(head, '\n')
	if err := r.parseLine(head[:i-1]); err != nil {
		return err
	}
	return r.parse(head[i+1:], false)
}

func (r *Response) parseLine(line []byte) (err error) {
	const status = len("HTTP/1.1 ")
	if len(line) < status+3 || line[status-1] != ' ' {
		return bad("the status line is not HTTP/1.1 STATUS REASON")
	}
	if r.minor, err = parseVersion(line[:status-1]); err != nil {
		return err
	}
	n, ok := number(line[status : status+3])
	if !ok || n < 100 {
		return bad("the status is not a number from 100 to 999")
	}
	r.Status, r.Reason = int(n), nil
	if rest := line[status+3:]; len(rest) > 0 {
		if rest[0] != ' ' || !all(rest, valueByte) {
			return bad("the status line has a character that it cannot have")
		}
		r.Reason = rest[1:]
	}
	return nil
}

// Interim reports whether another response follows.
func (r *Response) Interim() bool { return r.Status < 200 && r.Status != 101 }

// Accepts reports whether this is the server's consent to go over to one of the
// protocols that a request asked for.
func (r *Response) Accepts(protocols []byte) bool {
	if r.Status != 101 || !r.upgrades || len(r.protocols) == 0 {
		return false
	}
	for len(protocols) > 0 {
		var p []byte
		if p, protocols = cutList(protocols); equalFold(p, r.protocols) {
			return true
		}
	}
	return false
}

// Body is the decoder for what follows the head, given the request's method.
func (r *Response) Body(method []byte) Body {
	switch {
	case string(method) == "HEAD", r.Status < 200, r.Status == 204, r.Status == 304:
		return Body{done: true}
	case r.Chunked:
		return Body{Framing: Chunked}
	case r.Length >= 0:
		return Body{Framing: Sized, left: r.Length, done: r.Length == 0}
	}
	return Body{Framing: UntilClose}
}
