// Package ca is the mesh's certificate authority: a root and an issuing
// certificate, kept in the replicated state with their keys sealed.
package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/pki"
)

// An Authority signs certificates. It may be used concurrently.
type Authority struct {
	issuer      *pki.Issuer
	root        *x509.Certificate
	roots       [][]byte
	trustDomain string
	generation  uint64
	index       uint64
}

// Sign issues a certificate for the key of csr (PKCS #10). Names in csr are
// ignored: id is what the certificate says. It is valid for ttl, but never
// longer than the issuing certificate.
func (a *Authority) Sign(csr []byte, id mesh.Identity, ttl time.Duration) (*Signed, error) {
	if id.TrustDomain != a.trustDomain {
		return nil, fmt.Errorf("%s is not of this mesh, whose trust domain is %s", id, a.trustDomain)
	}
	chain, err := a.issuer.IssueLeaf(csr, id, ttl, time.Now())
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("reading the certificate just made: %w", err)
	}
	hash := pki.Pin(leaf)
	return &Signed{Chain: chain, KeyHash: hash[:], Generation: a.generation}, nil
}

// A Signed certificate.
type Signed struct {
	Chain [][]byte // DER: leaf, issuing and what is above, up to the root
	// KeyHash is the SHA-256 of the public key, by which its owner is known.
	KeyHash []byte
	// Generation of the authority that signed it.
	Generation uint64
}

// Above are the certificates that follow a leaf in its chain (DER).
func (a *Authority) Above() [][]byte { return a.issuer.Above() }

// Generation counts what has signed in this mesh.
func (a *Authority) Generation() uint64 { return a.generation }

// Index of the state that the authority is from.
func (a *Authority) Index() uint64 { return a.index }

// Roots are the trust anchors of the mesh (DER).
func (a *Authority) Roots() [][]byte { return a.roots }

// Pin is the SHA-256 of the public key of the root that what is signed hangs on.
func (a *Authority) Pin() [sha256.Size]byte { return pki.Pin(a.root) }
