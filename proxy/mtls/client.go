package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// ErrNoCertificate says that this host has no certificate for an identity.
var ErrNoCertificate = errors.New("there is no certificate for the identity")

// A Destination is what a client calls.
type Destination struct {
	ServerName string
	Identity   string // SPIFFE ID that the server must prove
	Protocol   string // ALPN
}

// Client is the configuration for one connection to a server, as the bearer of
// a certificate.
func Client(source Source, certificate *tls.Certificate, to Destination) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{*certificate},
		ServerName:   to.ServerName,
		NextProtos:   []string{to.Protocol},
		// Certificates have no DNS names: VerifyConnection checks the chain and
		// the identity instead.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyServer(&state, source, to)
		},
		DynamicRecordSizingDisabled: true,
	}
}

func verifyServer(state *tls.ConnectionState, source Source, to Destination) error {
	if state.NegotiatedProtocol != to.Protocol {
		return fmt.Errorf("the peer speaks %q, not %q", state.NegotiatedProtocol, to.Protocol)
	}
	id, err := verify(state, source.Roots(), x509.ExtKeyUsageServerAuth)
	if err != nil {
		return errPeer{err}
	}
	if id.String() != to.Identity {
		return errPeer{fmt.Errorf("the peer is %s, not %s", id, to.Identity)}
	}
	return nil
}
