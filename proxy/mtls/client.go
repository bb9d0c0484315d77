package mtls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/pki"
)

// ErrNoCertificate says that this host has no certificate for an identity.
var ErrNoCertificate = errors.New("there is no certificate for the identity")

// A Destination is what a client calls.
type Destination struct {
	ServerName string
	Identity   string   // SPIFFE ID that the server must prove
	Protocols  []string // ALPN, of which the server chooses
}

// HTTP2 is HTTP/2 in ALPN.
const HTTP2 = "h2"

// Client is the configuration for one connection to a server, as the bearer of
// a certificate.
func Client(source Source, certificate *tls.Certificate, to Destination) *tls.Config {
	c := pki.BaseConfig()
	c.Certificates = []tls.Certificate{*certificate}
	c.ServerName = to.ServerName
	c.NextProtos = to.Protocols
	c.VerifyConnection = func(state tls.ConnectionState) error { return verifyServer(state, source, to) }
	c.DynamicRecordSizingDisabled = true
	return c
}

func verifyServer(state tls.ConnectionState, source Source, to Destination) error {
	if !slices.Contains(to.Protocols, state.NegotiatedProtocol) {
		return fmt.Errorf("the peer speaks %q, not %q", state.NegotiatedProtocol, to.Protocols)
	}
	expected, err := mesh.ParseIdentity(to.Identity)
	if err != nil {
		return err
	}
	id, err := verify(state, source, expected.TrustDomain)
	if err != nil {
		return errPeer{err}
	}
	if id != expected {
		return errPeer{fmt.Errorf("the peer is %s, not %s", id, expected)}
	}
	return nil
}
