package codec

import "bytes"

// Classes of bytes.
const (
	tokenByte  = 1 << iota // of methods and field names
	valueByte              // of field values
	targetByte             // of request targets
	hostByte               // of host names
	hexByte
	lowerByte
)

var class = func() (t [256]byte) {
	for i := range t {
		c := byte(i)
		alphanumeric := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if alphanumeric || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0 {
			t[c] |= tokenByte
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= valueByte
		}
		if c > ' ' && c < 0x7f && c != '#' {
			t[c] |= targetByte
		}
		if alphanumeric || bytes.IndexByte([]byte("-._~"), c) >= 0 {
			t[c] |= hostByte
		}
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' {
			t[c] |= hexByte
		}
		if c >= 'a' && c <= 'z' {
			t[c] |= lowerByte
		}
	}
	return t
}()

// all reports whether every byte of b is of a class.
func all(b []byte, of byte) bool {
	for _, c := range b {
		if class[c]&of == 0 {
			return false
		}
	}
	return true
}

// some reports whether any byte of b is of a class.
func some(b []byte, of byte) bool {
	for _, c := range b {
		if class[c]&of != 0 {
			return true
		}
	}
	return false
}

func isToken(b []byte) bool { return len(b) > 0 && all(b, tokenByte) }

// equal compares with a string that is in lower case.
func equal(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func equalFold(a, b []byte) bool {
	return len(a) == len(b) && bytes.EqualFold(a, b)
}

func hasPrefix(b []byte, lower string) bool {
	return len(b) >= len(lower) && equal(b[:len(lower)], lower)
}

// trim removes optional white space.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// cutList splits off the first element of a comma-separated list.
func cutList(list []byte) (first, rest []byte) {
	if i := bytes.IndexByte(list, ','); i >= 0 {
		return trim(list[:i]), list[i+1:]
	}
	return trim(list), nil
}

// listed reports whether a list has an element, given in lower case.
func listed(list []byte, element string) bool {
	for len(list) > 0 {
		var e []byte
		if e, list = cutList(list); equal(e, element) {
			return true
		}
	}
	return false
}

// number reads a decimal number that is nothing but digits.
func number(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
