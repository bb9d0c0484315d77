// Package mesh is the vocabulary of a mesh: names, identities, defaults and the
// validation of resources.
package mesh

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// A Kind says what an identity stands for.
type Kind string

const (
	KindService Kind = "svc"
	KindHost    Kind = "host"
	KindServer  Kind = "server"
)

// An Identity is a SPIFFE ID of the mesh: spiffe://TRUST-DOMAIN/KIND/NAME.
type Identity struct {
	TrustDomain string
	Kind        Kind
	Name        string
}

// ServiceIdentity is the identity that the instances of a service share.
func ServiceIdentity(trustDomain, service string) Identity {
	return Identity{trustDomain, KindService, service}
}

// HostIdentity is the identity of a host's agent, and of callers on the host
// that are no service.
func HostIdentity(trustDomain, host string) Identity {
	return Identity{trustDomain, KindHost, host}
}

// ServerIdentity is the identity of a member of the control plane.
func ServerIdentity(trustDomain, server string) Identity {
	return Identity{trustDomain, KindServer, server}
}

// String gives the identity as a SPIFFE ID.
func (i Identity) String() string {
	return "spiffe://" + i.TrustDomain + "/" + string(i.Kind) + "/" + i.Name
}

// Short gives the identity as policies and people write it: a service by its
// bare name, others as KIND/NAME.
func (i Identity) Short() string {
	if i.Kind == KindService {
		return i.Name
	}
	return string(i.Kind) + "/" + i.Name
}

// URL gives the identity as a certificate carries it.
func (i Identity) URL() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: i.TrustDomain, Path: "/" + string(i.Kind) + "/" + i.Name}
}

// ParseIdentity reads a SPIFFE ID exactly as String writes it, and nothing
// looser: an identity has one spelling.
func ParseIdentity(s string) (Identity, error) {
	rest, ok := strings.CutPrefix(s, "spiffe://")
	if !ok {
		return Identity{}, fmt.Errorf("identity %q does not begin with spiffe://", s)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 {
		return Identity{}, fmt.Errorf("identity %q is not spiffe://DOMAIN/KIND/NAME", s)
	}
	id := Identity{TrustDomain: parts[0], Kind: Kind(parts[1]), Name: parts[2]}
	switch id.Kind {
	case KindService, KindHost, KindServer:
	default:
		return Identity{}, fmt.Errorf("identity %q is of no known kind (svc, host or server)", s)
	}
	if err := CheckTrustDomain(id.TrustDomain); err != nil {
		return Identity{}, fmt.Errorf("identity %q: %w", s, err)
	}
	if err := CheckName(id.Name); err != nil {
		return Identity{}, fmt.Errorf("identity %q: %w", s, err)
	}
	return id, nil
}

// CheckName reports why s cannot name a service, a host, a server or a
// resource: all are DNS labels (RFC 1123) in lower case.
func CheckName(s string) error {
	if s == "" || len(s) > 63 {
		return fmt.Errorf("name %q is not 1 to 63 characters long", s)
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c == '-' && i > 0 && i < len(s)-1:
		default:
			return fmt.Errorf("name %q has %q at position %d: only a-z, 0-9 and, inside, - are allowed", s, c, i+1)
		}
	}
	return nil
}

// CheckTrustDomain reports why s cannot be a trust domain: dot-separated names.
func CheckTrustDomain(s string) error {
	if len(s) > 253 {
		return fmt.Errorf("trust domain %q is longer than 253 characters", s)
	}
	for label := range strings.SplitSeq(s, ".") {
		if err := CheckName(label); err != nil {
			return fmt.Errorf("trust domain %q: %w", s, err)
		}
	}
	return nil
}

// ServerName is the TLS server name under which an agent's inbound listener
// knows one instance of a service: the port tells the instances of a host apart.
func ServerName(trustDomain, service string, port uint16) string {
	return "p" + strconv.Itoa(int(port)) + "." + service + ".svc." + trustDomain
}

// DefaultLoopback is the range in which services have their addresses.
var DefaultLoopback = netip.MustParsePrefix("127.128.0.0/9")

// VirtualAddress is the loopback address of the service with that place in the
// range. ok is false when the range is too small.
func VirtualAddress(loopback netip.Prefix, vip uint32) (addr netip.Addr, ok bool) {
	base := loopback.Masked().Addr().As4()
	n := uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3])
	n += vip
	addr = netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	return addr, vip > 0 && loopback.Contains(addr)
}
