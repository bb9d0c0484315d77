package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/pki"
)

// ErrRotating says that a rotation of the root is under way.
var ErrRotating = errors.New("a rotation of the root is under way: see how far it is with meshd ca show, or end its present phase with meshd ca rotate --force")

// Rotate gives the authority on its way to another: to what was brought from
// outside, or to a new root of the mesh's own when that is nil. With another root
// it is the first phase of a rotation; what brings only a new intermediate under
// the present root is in force at once.
func (v Vault) Rotate(a *apiv1.Authority, own *pki.Bundle, by string, now time.Time) (*apiv1.Authority, error) {
	if a.Rotation != nil {
		return nil, ErrRotating
	}
	if own != nil && slices.ContainsFunc(chain(a), func(der []byte) bool { return bytes.Equal(der, own.Chain[0].Raw) }) {
		return nil, fmt.Errorf("the certificate %s is the mesh's already: to renew only what is below it, use meshd ca rotate --issuing", own.Chain[0].Subject)
	}
	next, err := v.Create(a.TrustDomain, own, now)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(next.RootCertificate, a.RootCertificate) {
		next.Generation, next.ModifyIndex = a.Generation+1, a.ModifyIndex
		return next, nil
	}
	if err := v.crossSign(a, next, now); err != nil {
		return nil, err
	}
	first := proto.CloneOf(a)
	first.OtherRoots = [][]byte{next.RootCertificate}
	first.Rotation = &apiv1.Rotation{
		Phase: apiv1.Rotation_PHASE_TRUST, StartedUnix: now.Unix(), PhaseUnix: now.Unix(), StartedBy: by, Next: next,
	}
	return first, nil
}

func chain(a *apiv1.Authority) [][]byte {
	return slices.Concat([][]byte{a.GetIssuingCertificate()}, a.GetIntermediates(), [][]byte{a.GetRootCertificate()})
}

// crossSign has next hang on the root of a, too, where that is possible: not if
// its key is kept elsewhere, or if it restricts what may be below.
func (v Vault) crossSign(a, next *apiv1.Authority, now time.Time) error {
	if len(a.GetSealedRootKey()) == 0 {
		return nil
	}
	by, key, err := v.parent(a)
	if err != nil {
		return err
	}
	root, err := x509.ParseCertificate(next.GetRootCertificate())
	if err != nil {
		return fmt.Errorf("reading the next root certificate: %w", err)
	}
	cross, err := pki.CrossSign(root, by, key, now)
	if err != nil {
		return fmt.Errorf("signing the next root by the present one: %w", err)
	}
	tried := proto.CloneOf(next)
	tried.Intermediates = append(tried.Intermediates, cross.Raw)
	authority, err := v.Open(tried)
	if err != nil {
		return err
	}
	if authority.issuer.Try(by, next.TrustDomain, now) == nil {
		next.Intermediates = tried.Intermediates
	}
	return nil
}

// crossSigned says whether the root is among the intermediates as well, signed by
// the one before.
func crossSigned(a *apiv1.Authority) bool { return len(withoutCross(a)) < len(a.GetIntermediates()) }

func withoutCross(a *apiv1.Authority) (others [][]byte) {
	root, err := x509.ParseCertificate(a.GetRootCertificate())
	if err != nil {
		return a.GetIntermediates()
	}
	for _, der := range a.GetIntermediates() {
		if c, err := x509.ParseCertificate(der); err != nil || !bytes.Equal(c.RawSubject, root.RawSubject) {
			others = append(others, der)
		}
	}
	return others
}

// Advance gives the authority in the phase of its rotation that follows; after
// the last one there is none.
func Advance(a *apiv1.Authority, now time.Time) *apiv1.Authority {
	next := proto.CloneOf(a)
	switch a.GetRotation().GetPhase() {
	case apiv1.Rotation_PHASE_TRUST:
		next = proto.CloneOf(a.Rotation.Next)
		next.OtherRoots, next.ModifyIndex = [][]byte{a.RootCertificate}, a.ModifyIndex
		next.Generation, next.Rotation = a.Generation+1, proto.CloneOf(a.Rotation)
		next.Rotation.Phase, next.Rotation.Next = apiv1.Rotation_PHASE_RENEW, nil
	case apiv1.Rotation_PHASE_RENEW:
		next.Intermediates, next.OtherRoots = withoutCross(a), nil
		next.Rotation.Phase = apiv1.Rotation_PHASE_RETIRE
	default:
		next.Rotation = nil
		return next
	}
	next.Rotation.PhaseUnix, next.Rotation.PhaseIndex = now.Unix(), 0
	return next
}
