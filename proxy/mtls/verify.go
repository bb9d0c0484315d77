package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/meshd/meshd/internal/mesh"
)

// verify checks the chain that a peer has shown and returns the identity that
// it proves. It must run for every connection, resumed or not.
func verify(state *tls.ConnectionState, roots *x509.CertPool, usage x509.ExtKeyUsage) (mesh.Identity, error) {
	if len(state.PeerCertificates) == 0 {
		return mesh.Identity{}, errors.New("the peer showed no certificate")
	}
	leaf := state.PeerCertificates[0]
	options := x509.VerifyOptions{
		Roots:         roots,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{usage},
		CurrentTime:   time.Now(),
	}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	if roots == nil {
		return mesh.Identity{}, errors.New("no trust anchors are loaded")
	}
	if _, err := leaf.Verify(options); err != nil {
		return mesh.Identity{}, fmt.Errorf("verifying the peer's certificate: %w", err)
	}
	return identity(leaf)
}

// identity is the SPIFFE ID of a certificate, which must bear no other name.
func identity(leaf *x509.Certificate) (mesh.Identity, error) {
	switch {
	case leaf.IsCA:
		return mesh.Identity{}, errors.New("the peer's certificate is that of a certificate authority")
	case len(leaf.URIs) != 1:
		return mesh.Identity{}, fmt.Errorf("the peer's certificate has %d URI names, not one", len(leaf.URIs))
	case len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0:
		return mesh.Identity{}, errors.New("the peer's certificate has other names beside its SPIFFE ID")
	}
	id, err := mesh.ParseIdentity(leaf.URIs[0].String())
	if err != nil {
		return mesh.Identity{}, fmt.Errorf("the peer's certificate: %w", err)
	}
	return id, nil
}

// Peer is the SPIFFE ID of the other end, once the handshake is complete.
func Peer(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return ""
	}
	id, err := identity(state.PeerCertificates[0])
	if err != nil {
		return ""
	}
	return id.String()
}

// Expires is when the other end's certificate ends.
func Expires(state tls.ConnectionState) time.Time {
	if len(state.PeerCertificates) == 0 {
		return time.Time{}
	}
	return state.PeerCertificates[0].NotAfter
}

// errPeer marks failures to prove the right identity, as opposed to those of
// the network.
type errPeer struct{ error }

func (e errPeer) Unwrap() error { return e.error }

// IsIdentityError reports whether a handshake failed because the peer did not
// prove the identity that was expected.
func IsIdentityError(err error) bool {
	var e errPeer
	return errors.As(err, &e)
}
