package exchange

import "bytes"

// Classes of bytes in messages.
const (
	TokenByte  = 1 << iota // of methods and field names
	ValueByte              // of field values
	TargetByte             // of request targets
	HostByte               // of host names
	HexByte
	LowerByte
)

// Class says what a byte may be part of.
var Class = func() (t [256]byte) {
	for i := range t {
		c := byte(i)
		alphanumeric := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if alphanumeric || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0 {
			t[c] |= TokenByte
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= ValueByte
		}
		if c > ' ' && c < 0x7f && c != '#' {
			t[c] |= TargetByte
		}
		if alphanumeric || bytes.IndexByte([]byte("-._~"), c) >= 0 {
			t[c] |= HostByte
		}
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' {
			t[c] |= HexByte
		}
		if c >= 'a' && c <= 'z' {
			t[c] |= LowerByte
		}
	}
	return t
}()

// All reports whether every byte of b is of a class.
func All(b []byte, of byte) bool {
	for _, c := range b {
		if Class[c]&of == 0 {
			return false
		}
	}
	return true
}

// Some reports whether any byte of b is of a class.
func Some(b []byte, of byte) bool {
	for _, c := range b {
		if Class[c]&of != 0 {
			return true
		}
	}
	return false
}

// IsToken reports whether b can be a method or the name of a field.
func IsToken(b []byte) bool { return len(b) > 0 && All(b, TokenByte) }

// Equal compares with a string that is in lower case.
func Equal(b []byte, lower string) bool {
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

// EqualFold compares without regard to case.
func EqualFold(a, b []byte) bool {
	return len(a) == len(b) && bytes.EqualFold(a, b)
}

// HasPrefix reports whether b begins with something that is in lower case.
func HasPrefix(b []byte, lower string) bool {
	return len(b) >= len(lower) && Equal(b[:len(lower)], lower)
}

// Trim removes optional white space.
func Trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// CutList splits off the first element of a comma-separated list.
func CutList(list []byte) (first, rest []byte) {
	if i := bytes.IndexByte(list, ','); i >= 0 {
		return Trim(list[:i]), list[i+1:]
	}
	return Trim(list), nil
}

// Listed reports whether a list has an element, given in lower case.
func Listed(list []byte, element string) bool {
	for len(list) > 0 {
		var e []byte
		if e, list = CutList(list); Equal(e, element) {
			return true
		}
	}
	return false
}

// Number reads a decimal number that is nothing but digits.
func Number(b []byte) (int64, bool) {
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
