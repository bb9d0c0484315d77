package exchange

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// A PathError says what makes a path ambiguous: something that servers are
// known to read in different ways.
type PathError string

func (e PathError) Error() string { return "the path " + string(e) }

const (
	errRelative  = PathError("does not begin with /")
	errEmpty     = PathError("has an empty segment (//)")
	errDots      = PathError("has a . or .. segment")
	errEscape    = PathError("has a % that is not followed by two hexadecimal digits")
	errDouble    = PathError("is encoded twice")
	errSeparator = PathError(`has a \ or ;, or an encoded /, \ or ;`)
	errControl   = PathError("has a control character")
	errUnicode   = PathError("is not UTF-8 in percent-encoding")
)

// AppendCanonicalPath appends the one spelling of a path: letters, digits and
// other characters that may stand for themselves do so, all others are written
// as % and two upper-case digits. Paths that could be read in more than one way
// are refused with a PathError.
func AppendCanonicalPath(dst, path []byte) ([]byte, error) {
	if len(path) == 0 || path[0] != '/' {
		return dst, errRelative
	}
	start := len(dst)
	dst = append(dst, '/')
	segment := len(dst)
	for i := 1; i < len(path); {
		if path[i] == '/' {
			if len(dst) == segment {
				return dst, errEmpty
			}
			if isDots(dst[segment:]) {
				return dst, errDots
			}
			dst = append(dst, '/')
			segment = len(dst)
			i++
			continue
		}
		var n int
		var err error
		if dst, n, err = appendCharacter(dst, path[i:]); err != nil {
			return dst, err
		}
		i += n
	}
	if isDots(dst[segment:]) {
		return dst, errDots
	}
	if isDouble(dst[start:]) {
		return dst, errDouble
	}
	return dst, nil
}

// appendCharacter appends the first character of p, encoded or not, and says
// how many bytes of p it takes.
func appendCharacter(dst, p []byte) ([]byte, int, error) {
	c, n := p[0], 1
	if c == '%' {
		var ok bool
		if c, ok = unescape(p); !ok {
			return dst, 0, errEscape
		}
		n = 3
	}
	switch {
	case c < ' ' || c == 0x7f:
		return dst, 0, errControl
	case c == '/' || c == '\\' || c == ';':
		return dst, 0, errSeparator
	case c >= utf8.RuneSelf:
		return appendRune(dst, p)
	case isPathByte[c]:
		return append(dst, c), n, nil
	}
	return appendEscaped(dst, c), n, nil
}

// appendRune takes a whole percent-encoded character beyond ASCII: part of one,
// or one in a longer form than need be, hides something.
func appendRune(dst, p []byte) ([]byte, int, error) {
	var raw [utf8.UTFMax]byte
	n := 0
	for n < len(raw) && !utf8.FullRune(raw[:n]) {
		c, ok := unescape(p[3*n:])
		if !ok || c < utf8.RuneSelf {
			return dst, 0, errUnicode
		}
		raw[n] = c
		n++
	}
	if r, size := utf8.DecodeRune(raw[:n]); r == utf8.RuneError || size != n {
		return dst, 0, errUnicode
	}
	for _, c := range raw[:n] {
		dst = appendEscaped(dst, c)
	}
	return dst, 3 * n, nil
}

func appendEscaped(dst []byte, c byte) []byte {
	const digits = "0123456789ABCDEF"
	return append(dst, '%', digits[c>>4], digits[c&15])
}

func unescape(p []byte) (c byte, ok bool) {
	if len(p) < 3 || p[0] != '%' || !isHex(p[1]) || !isHex(p[2]) {
		return 0, false
	}
	return unhex(p[1])<<4 | unhex(p[2]), true
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// isDouble finds escapes that appear only once the path is decoded.
func isDouble(canonical []byte) bool {
	for {
		i := bytes.Index(canonical, []byte("%25"))
		if i < 0 {
			return false
		}
		canonical = canonical[i+3:]
		if len(canonical) >= 2 && isHex(canonical[0]) && isHex(canonical[1]) {
			return true
		}
	}
}

func isDots(segment []byte) bool {
	return string(segment) == "." || string(segment) == ".."
}

// isPathByte is what stands for itself in a segment: pchar of RFC 3986 without
// the semicolon.
var isPathByte = func() (t [256]bool) {
	for c := range t {
		switch b := byte(c); {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9':
			t[c] = true
		default:
			t[c] = strings.IndexByte("-._~!$&'()*+,=:@", b) >= 0
		}
	}
	return t
}()

// A PathMatch compares canonical paths: equal to one, or also below it by whole
// segments.
type PathMatch struct {
	path   string
	prefix bool
}

// NewPathMatch makes a PathMatch. The path may be in any unambiguous spelling.
func NewPathMatch(path string, prefix bool) PathMatch {
	if canonical, err := AppendCanonicalPath(nil, []byte(path)); err == nil {
		path = string(canonical)
	}
	if prefix {
		path = strings.TrimSuffix(path, "/")
	}
	return PathMatch{path, prefix}
}

// Match reports whether a canonical path is meant.
func (m PathMatch) Match(path []byte) bool {
	if !m.prefix {
		return string(path) == m.path
	}
	n := len(m.path)
	return len(path) >= n && string(path[:n]) == m.path &&
		(len(path) == n || path[n] == '/')
}
