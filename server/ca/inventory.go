package ca

import (
	"bytes"
	"slices"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// An Item is one certificate of an authority.
type Item struct {
	Use         string // as in CertificateInfo
	Certificate []byte // DER
	KeyHeld     bool   // its private key is in the mesh, sealed
}

// Inventory lists what an authority is made of, from the root down, and then the
// other root of a rotation.
func Inventory(a *apiv1.Authority) []Item {
	items := []Item{{"root", a.GetRootCertificate(), len(a.GetSealedRootKey()) > 0}}
	others := withoutCross(a)
	for _, der := range slices.Backward(a.GetIntermediates()) {
		if !slices.ContainsFunc(others, func(other []byte) bool { return bytes.Equal(other, der) }) {
			items = append(items, Item{"cross-signed root", der, false})
			continue
		}
		first := bytes.Equal(der, others[0])
		items = append(items, Item{"intermediate", der, first && len(a.SealedIntermediateKey) > 0})
	}
	items = append(items, Item{"issuing", a.GetIssuingCertificate(), len(a.GetSealedIssuingKey()) > 0})
	for _, der := range a.GetOtherRoots() {
		if next := a.GetRotation().GetNext(); next != nil {
			items = append(items, Item{"next root", der, len(next.SealedRootKey) > 0})
		} else {
			items = append(items, Item{"old root", der, false})
		}
	}
	return items
}
