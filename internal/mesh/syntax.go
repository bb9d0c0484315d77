package mesh

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

// SplitTo reads the SERVICE or SERVICE@SUBSET that a route sends calls to. The
// subset is empty when none is named.
func SplitTo(to string) (service, subset string, err error) {
	service, subset, found := strings.Cut(to, "@")
	if err := CheckName(service); err != nil {
		return "", "", fmt.Errorf("%q is not SERVICE or SERVICE@SUBSET: %w", to, err)
	}
	if !found {
		return service, "", nil
	}
	if err := CheckName(subset); err != nil {
		return "", "", fmt.Errorf("%q is not SERVICE or SERVICE@SUBSET: subset %w", to, err)
	}
	return service, subset, nil
}

// CallerPattern turns a caller as policies write it (a service name, a prefix
// as NAME*, host/NAME, or *) into the SPIFFE ID that it stands for, or, when
// prefix is set, into what the IDs it stands for begin with.
func CallerPattern(trustDomain, from string) (id string, prefix bool, err error) {
	domain := "spiffe://" + trustDomain + "/"
	if from == "*" {
		return domain, true, nil
	}
	kind, name := KindService, from
	if rest, ok := strings.CutPrefix(from, string(KindHost)+"/"); ok {
		kind, name = KindHost, rest
	}
	stem, prefix := strings.CutSuffix(name, "*")
	if err := checkCallerName(stem, prefix); err != nil {
		return "", false, fmt.Errorf("%q is no caller: %w", from, err)
	}
	return domain + string(kind) + "/" + stem, prefix, nil
}

// checkCallerName takes what begins a name as well when prefix is set.
func checkCallerName(stem string, prefix bool) error {
	if prefix {
		return CheckName(stem + "x")
	}
	return CheckName(stem)
}

// PathPattern reads a path as policies write it: exact, or, ending in /*, all
// below that path.
func PathPattern(pattern string) (path string, prefix bool, err error) {
	path, prefix = strings.CutSuffix(pattern, "/*")
	if prefix && path == "" {
		return "/", true, nil
	}
	if prefix && strings.HasSuffix(path, "/") {
		return "", false, fmt.Errorf("path %q has an empty segment (//)", pattern)
	}
	return path, prefix, CheckPath(path)
}

// CheckPath reports why s cannot be compared with the path of a request. It
// must be in canonical form, since that is what it is compared with: another
// spelling would never match.
func CheckPath(s string) error {
	if !strings.HasPrefix(s, "/") {
		return fmt.Errorf("path %q does not begin with /", s)
	}
	if len(s) > 1024 {
		return fmt.Errorf("path is %d characters long, and 1024 is the most", len(s))
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(s[1:], "/"), "/") {
		if segment == "" && s != "/" {
			return fmt.Errorf("path %q has an empty segment (//)", s)
		}
		if segment == "." || segment == ".." {
			return fmt.Errorf("path %q has the segment %q", s, segment)
		}
		if err := checkSegment(segment); err != nil {
			return fmt.Errorf("path %q %w", s, err)
		}
	}
	if plain, err := url.PathUnescape(s); err != nil || !utf8.ValidString(plain) {
		return fmt.Errorf("path %q is not UTF-8 in percent-encoding", s)
	}
	return nil
}

func checkSegment(segment string) error {
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		switch {
		case c == '*':
			return errors.New("has a * where no pattern can be; as a plain character it is %2A")
		case isPathByte(c):
		case c == '%':
			if err := checkEscape(segment[i:]); err != nil {
				return err
			}
			i += 2
		default:
			return fmt.Errorf("has %q, which no canonical path holds", c)
		}
	}
	return nil
}

// checkEscape takes what must be written with a % in a canonical path, and *.
func checkEscape(s string) error {
	c, ok := unescape(s)
	switch {
	case !ok:
		return errors.New("has a % that is not followed by two of 0-9 A-F")
	case c < ' ', c == 0x7f, c == '/', c == '\\', c == ';':
		return fmt.Errorf("has %s, which is refused in requests", s[:3])
	case isPathByte(c) && c != '*':
		return fmt.Errorf("has %s, which is canonically %q", s[:3], c)
	}
	if c == '%' && len(s) >= 5 && isHex(s[3]) && isHex(s[4]) {
		return errors.New("is encoded twice")
	}
	return nil
}

// unescape reads an escape in upper case at the beginning of s.
func unescape(s string) (c byte, ok bool) {
	if len(s) < 3 || s[0] != '%' || !isUpperHex(s[1]) || !isUpperHex(s[2]) {
		return 0, false
	}
	return unhex(s[1])<<4 | unhex(s[2]), true
}

// isPathByte says whether c stands for itself in a canonical path.
func isPathByte(c byte) bool {
	return isUnreserved(c) || strings.IndexByte("!$&'()*+,=:@", c) >= 0
}

func isUnreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func isHex(c byte) bool { return isUpperHex(c) || c >= 'a' && c <= 'f' }

func isUpperHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'A' + 10
}

// isToken says whether s is a token of RFC 9110.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !isUnreserved(c) && strings.IndexByte("!#$%&'*+^`|", c) < 0 {
			return false
		}
	}
	return s != ""
}

func checkMethod(s string) error {
	if !isToken(s) || len(s) > 32 {
		return fmt.Errorf("%q is no HTTP method", s)
	}
	if upper := strings.ToUpper(s); upper != s {
		return fmt.Errorf("method %q matches no %s: methods are told apart by case", s, upper)
	}
	return nil
}

func checkHeaderName(s string) error {
	switch {
	case !isToken(s) || len(s) > 128:
		return fmt.Errorf("%q is no header name", s)
	case strings.ToLower(s) != s:
		return fmt.Errorf("header name %q is not in lower case", s)
	case strings.HasPrefix(s, "meshd-"):
		return fmt.Errorf("header %q is taken out of every call before rules are read", s)
	}
	return nil
}

func checkHeaderValue(s string) error {
	if strings.TrimSpace(s) != s {
		return fmt.Errorf("value %q begins or ends with white space, which is never part of a header's value", s)
	}
	return checkText(s, 1024)
}

// checkText takes what can be shown on one line.
func checkText(s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("value is %d bytes long, and %d is the most", len(s), most)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return fmt.Errorf("value %q holds a control character", s)
		}
	}
	return nil
}

// checkWord takes 1 to most letters, digits and characters of extra.
func checkWord(what, s, extra string, most int) error {
	if s == "" || len(s) > most {
		return fmt.Errorf("%s %q is not 1 to %d characters long", what, s, most)
	}
	for i := range len(s) {
		c := s[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && strings.IndexByte(extra, c) < 0 {
			return fmt.Errorf("%s %q has %q: only letters, digits and any of %s are allowed", what, s, c, extra)
		}
	}
	return nil
}
