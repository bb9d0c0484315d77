package ca

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/pki"
)

// What the sealed keys are sealed for, beside the cluster that they belong to.
const (
	rootPurpose         = "root key"
	intermediatePurpose = "intermediate key"
	issuingPurpose      = "issuing key"
)

// A Vault makes authorities of one cluster and seals their keys.
type Vault struct {
	ClusterID string
	Key       pki.SealingKey
}

// Create makes the authority of a new mesh: from what was brought from outside,
// or with a root of its own when that is nil. Its private keys are in the result
// only, sealed.
func (v Vault) Create(trustDomain string, own *pki.Bundle, now time.Time) (*apiv1.Authority, error) {
	if own != nil {
		if err := own.Check(trustDomain, now); err != nil {
			return nil, err
		}
		return v.under(own, trustDomain, now)
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	root, err := pki.NewRoot(trustDomain, key, now)
	if err != nil {
		return nil, fmt.Errorf("making the root certificate: %w", err)
	}
	return v.under(&pki.Bundle{Chain: []*x509.Certificate{root}, Key: key}, trustDomain, now)
}

// under makes an authority below the first certificate of a bundle, or of that
// certificate itself if nothing can be below.
func (v Vault) under(b *pki.Bundle, trustDomain string, now time.Time) (a *apiv1.Authority, err error) {
	a = &apiv1.Authority{TrustDomain: trustDomain, RootCertificate: b.Root().Raw}
	middle := b.Chain[:len(b.Chain)-1]
	if b.SignsLeaves() {
		a.IssuingCertificate, middle = b.Chain[0].Raw, middle[1:]
		a.SealedIssuingKey, err = v.seal(b.Key, issuingPurpose)
	}
	for _, c := range middle {
		a.Intermediates = append(a.Intermediates, c.Raw)
	}
	switch {
	case err != nil || b.SignsLeaves():
		return a, err
	case len(middle) > 0:
		a.SealedIntermediateKey, err = v.seal(b.Key, intermediatePurpose)
	default:
		a.SealedRootKey, err = v.seal(b.Key, rootPurpose)
	}
	if err != nil {
		return nil, err
	}
	return a, v.issue(a, b.Chain[0], b.Key, now)
}

// issue gives a an issuing certificate under parent.
func (v Vault) issue(a *apiv1.Authority, parent *x509.Certificate, parentKey crypto.Signer, now time.Time) error {
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	issuing, err := pki.NewIssuing(parent, parentKey, a.TrustDomain, &key.PublicKey, now)
	if err != nil {
		return fmt.Errorf("making the issuing certificate: %w", err)
	}
	a.IssuingCertificate = issuing.Raw
	a.SealedIssuingKey, err = v.seal(key, issuingPurpose)
	return err
}

// ErrNoParentKey says that no issuing certificate can be made here.
var ErrNoParentKey = errors.New("the key that signs issuing certificates is kept outside of the mesh: bring the next issuing certificate with meshd ca rotate --cert FILE --key FILE")

// Reissue gives the authority with a new issuing certificate under the present
// root, or ErrNoParentKey.
func (v Vault) Reissue(a *apiv1.Authority, now time.Time) (*apiv1.Authority, error) {
	parent, key, err := v.parent(a)
	if err != nil {
		return nil, err
	}
	next := proto.CloneOf(a)
	next.Generation++
	return next, v.issue(next, parent, key, now)
}

// parent is the certificate that signs issuing ones, with its key.
func (v Vault) parent(a *apiv1.Authority) (*x509.Certificate, crypto.Signer, error) {
	der, sealed, purpose := a.GetRootCertificate(), a.GetSealedRootKey(), rootPurpose
	if len(a.GetSealedIntermediateKey()) > 0 {
		der, sealed, purpose = a.Intermediates[0], a.SealedIntermediateKey, intermediatePurpose
	}
	if len(sealed) == 0 {
		return nil, nil, ErrNoParentKey
	}
	parent, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the certificate above the issuing one: %w", err)
	}
	key, err := v.open(sealed, purpose)
	return parent, key, err
}

func (v Vault) seal(private crypto.Signer, purpose string) ([]byte, error) {
	der, err := pki.MarshalKey(private)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return v.Key.Seal(der, v.ClusterID, purpose), nil
}

func (v Vault) open(sealed []byte, purpose string) (crypto.Signer, error) {
	der, err := v.Key.Open(sealed, v.ClusterID, purpose)
	if err != nil {
		return nil, fmt.Errorf("the mesh's %s cannot be used: %w", purpose, err)
	}
	defer clear(der)
	key, err := pki.ParseAuthorityKey(der)
	if err != nil {
		return nil, fmt.Errorf("the mesh's %s cannot be used: %w", purpose, err)
	}
	return key, nil
}

// Open makes an authority usable: its issuing key is unsealed, in memory only.
func (v Vault) Open(a *apiv1.Authority) (*Authority, error) {
	key, err := v.open(a.GetSealedIssuingKey(), issuingPurpose)
	if err != nil {
		return nil, err
	}
	issuer, err := pki.NewIssuer(key, a.GetIssuingCertificate(), above(a)...)
	if err != nil {
		return nil, fmt.Errorf("the mesh's certificate authority cannot be used: %w", err)
	}
	root, err := x509.ParseCertificate(a.GetRootCertificate())
	if err != nil {
		return nil, fmt.Errorf("reading the root certificate: %w", err)
	}
	return &Authority{issuer: issuer, root: root, roots: Roots(a), trustDomain: a.GetTrustDomain(), generation: a.GetGeneration(), index: a.GetModifyIndex()}, nil
}

// above is what follows the issuing certificate in a chain. The root that goes
// is among it only where what signs now hangs on it too.
func above(a *apiv1.Authority) [][]byte {
	chain := slices.Concat(a.GetIntermediates(), [][]byte{a.GetRootCertificate()})
	if a.GetRotation().GetPhase() == apiv1.Rotation_PHASE_RENEW && crossSigned(a) {
		chain = append(chain, a.GetOtherRoots()...)
	}
	return chain
}

// Roots are the trust anchors of the mesh (DER): what signs now hangs on the
// first.
func Roots(a *apiv1.Authority) [][]byte {
	return slices.Concat([][]byte{a.GetRootCertificate()}, a.GetOtherRoots())
}
