// Package ca is the mesh's certificate authority: a root and an issuing
// certificate, kept in the replicated state with their keys sealed.
package ca

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/pki"
)

// What the sealed keys are sealed for, beside the cluster that they belong to.
const (
	rootPurpose    = "root key"
	issuingPurpose = "issuing key"
)

// Create makes the authority of a new mesh. Its private keys are in the result
// only, sealed with key.
func Create(clusterID, trustDomain string, key pki.SealingKey, now time.Time) (*apiv1.Authority, error) {
	rootKey, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	issuingKey, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	root, err := pki.NewRoot(trustDomain, rootKey, now)
	if err != nil {
		return nil, fmt.Errorf("making the root certificate: %w", err)
	}
	issuing, err := pki.NewIssuing(root, rootKey, trustDomain, &issuingKey.PublicKey, now)
	if err != nil {
		return nil, fmt.Errorf("making the issuing certificate: %w", err)
	}
	a := &apiv1.Authority{TrustDomain: trustDomain, RootCertificate: root.Raw, IssuingCertificate: issuing.Raw}
	if a.SealedRootKey, err = seal(rootKey, key, clusterID, rootPurpose); err != nil {
		return nil, err
	}
	if a.SealedIssuingKey, err = seal(issuingKey, key, clusterID, issuingPurpose); err != nil {
		return nil, err
	}
	return a, nil
}

func seal(private *ecdsa.PrivateKey, key pki.SealingKey, clusterID, purpose string) ([]byte, error) {
	der, err := pki.MarshalKey(private)
	if err != nil {
		return nil, err
	}
	return key.Seal(der, clusterID, purpose), nil
}

// An Authority signs certificates. It may be used concurrently.
type Authority struct {
	issuer      *pki.Issuer
	trustDomain string
}

// Open makes an authority usable: its issuing key is unsealed, in memory only.
func Open(a *apiv1.Authority, clusterID string, key pki.SealingKey) (*Authority, error) {
	der, err := key.Open(a.GetSealedIssuingKey(), clusterID, issuingPurpose)
	if err != nil {
		return nil, fmt.Errorf("the mesh's issuing key cannot be used: %w", err)
	}
	private, err := pki.ParseKey(der)
	if err != nil {
		return nil, fmt.Errorf("the mesh's issuing key cannot be used: %w", err)
	}
	issuer, err := pki.NewIssuer(a.GetRootCertificate(), a.GetIssuingCertificate(), private)
	if err != nil {
		return nil, fmt.Errorf("the mesh's certificate authority cannot be used: %w", err)
	}
	return &Authority{issuer, a.GetTrustDomain()}, nil
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
	return &Signed{Chain: chain, KeyHash: hash[:]}, nil
}

// A Signed certificate.
type Signed struct {
	Chain [][]byte // DER: leaf, issuing, root
	// KeyHash is the SHA-256 of the public key, by which its owner is known.
	KeyHash []byte
}

// Roots are the trust anchors of the mesh (DER).
func (a *Authority) Roots() [][]byte { return [][]byte{a.issuer.Root.Raw} }

// Pin is the SHA-256 of the root's public key.
func (a *Authority) Pin() [sha256.Size]byte { return pki.Pin(a.issuer.Root) }
