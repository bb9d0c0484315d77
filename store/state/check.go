package state

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// checkID reports why s cannot be an id. Ids are compared and shown, never
// resolved, so more is allowed in them than in names.
func checkID(what, s string) error {
	if s == "" || len(s) > 128 {
		return invalid("%s %q is not 1 to 128 characters long", what, s)
	}
	for i := range len(s) {
		c := s[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && strings.IndexByte("._:-", c) < 0 {
			return invalid("%s %q has %q: only letters, digits and . _ : - are allowed", what, s, c)
		}
	}
	return nil
}

func checkHash(what string, hash []byte) error {
	if len(hash) != sha256.Size {
		return invalid("the hash of the %s has %d bytes, want %d", what, len(hash), sha256.Size)
	}
	return nil
}

func checkIP(s string) error {
	if _, err := netip.ParseAddr(s); err != nil {
		return invalid("address %q is not an IP address", s)
	}
	return nil
}

func checkPort(port uint32) error {
	if port < 1 || port > 65535 {
		return invalid("port %d is not 1 to 65535", port)
	}
	return nil
}

func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err == nil && host != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
			return nil
		}
	}
	return invalid("address %q is not host:port", s)
}

// matches tells whether a name fits one of the patterns: "*" for all, "NAME*"
// for a prefix, or the name itself.
func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		prefix, open := strings.CutSuffix(p, "*")
		if p == name || open && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// errorIn says which part of a command an error is about.
func errorIn(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return invalid("%s: %v", fmt.Sprintf(format, args...), err)
}
