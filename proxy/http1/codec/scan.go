package codec

import (
	"bytes"

	"github.com/meshd/meshd/proxy/exchange"
)

// A Scanner finds the end of a head while its bytes arrive, so that none is
// looked at twice. The zero value is ready.
type Scanner struct {
	start int // of the head, after an empty line
	line  int // start of the line that is being read
	seen  int
	lines int
}

// Request returns the head of a request once it is complete, up to and with its
// empty line, and how many bytes of b it takes. b is all that has arrived. What
// can become no request is refused as soon as that is plain.
func (s *Scanner) Request(b []byte) (head []byte, n int, err error) {
	if s.line == s.start && s.start < len(b) {
		if c := b[s.start]; exchange.Class[c]&exchange.TokenByte == 0 && (c != '\r' || s.start > 0) {
			return nil, 0, exchange.Bad("this is no HTTP request")
		}
	}
	return s.scan(b, errTargetTooLong)
}

// Response does the same for a response.
func (s *Scanner) Response(b []byte) (head []byte, n int, err error) {
	if k := min(len(b), len("HTTP/1.")); string(b[:k]) != "HTTP/1."[:k] {
		return nil, 0, exchange.Bad("this is no HTTP/1.1 response")
	}
	return s.scan(b, errLineTooLong)
}

func (s *Scanner) scan(b []byte, first error) (head []byte, n int, err error) {
	for {
		i := bytes.IndexByte(b[s.seen:], '\n')
		if i < 0 {
			s.seen = len(b)
			return nil, 0, s.limits(len(b), first)
		}
		end := s.seen + i
		if end == 0 || b[end-1] != '\r' || end == s.line {
			return nil, 0, exchange.Bad("a line ends with LF alone, not CR LF")
		}
		empty := end-1 == s.line
		if err := s.limits(end+1, first); err != nil {
			return nil, 0, err
		}
		s.line, s.seen = end+1, end+1
		switch {
		case !empty:
			s.lines++
		case s.lines > 0:
			return b[s.start:s.line], s.line, nil
		case s.start > 0:
			return nil, 0, exchange.Bad("there are empty lines before the request")
		default:
			// Some clients send one after a body.
			s.start = s.line
		}
	}
}

// limits checks what has arrived up to end.
func (s *Scanner) limits(end int, first error) error {
	switch {
	case end-s.line > MaxLine+2 && s.lines == 0:
		return first
	case end-s.line > MaxLine+2:
		return errLineTooLong
	case s.lines > MaxFields+1:
		return errTooManyFields
	case end-s.start > MaxHead:
		return errHeadTooLarge
	}
	return nil
}
