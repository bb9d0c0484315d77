// Package mtls makes the TLS configurations of links between agents: both sides
// prove a SPIFFE identity, and each checks the one it expects.
package mtls

import (
	"crypto/tls"
	"crypto/x509"
)

// A Source gives the identities of a host, as they are now. It is called for
// every handshake and must be quick and safe for concurrent use.
type Source interface {
	// Certificate returns the certificate of a SPIFFE ID, or nil if this host
	// has none.
	Certificate(id string) *tls.Certificate
	// Roots are the trust anchors of the mesh.
	Roots() *x509.CertPool
	// CurrentRoots are those of them that stay: the same as Roots but while the
	// mesh changes its root. Links under others are replaced soon.
	CurrentRoots() *x509.CertPool
}
