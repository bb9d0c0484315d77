package state

import (
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

func (w *writer) putAuthority(c *command.PutAuthority) error {
	a := proto.CloneOf(c.Authority)
	if err := checkAuthority(a, w.Cluster(nil).TrustDomain); err != nil {
		return err
	}
	if there := w.Authority(nil); there != nil {
		a.ModifyIndex = there.ModifyIndex
		if proto.Equal(a, there) {
			return nil
		}
	}
	a.ModifyIndex = w.index
	w.put(authorityTable, a)
	return nil
}

func checkAuthority(a *apiv1.Authority, trustDomain string) error {
	if got := a.GetTrustDomain(); got != trustDomain {
		return invalid("the certificate authority is for trust domain %q, and the mesh has %q", got, trustDomain)
	}
	if len(a.RootCertificate) == 0 || len(a.IssuingCertificate) == 0 || len(a.SealedIssuingKey) == 0 {
		return invalid("the certificate authority lacks its root certificate, its issuing certificate or the issuing key")
	}
	return nil
}

// changeAuthority moves the authority on from the one that the change was worked
// out from: two leaders that both do so cannot undo each other's step.
func (w *writer) changeAuthority(c *command.ChangeAuthority) error {
	a, there := proto.CloneOf(c.Authority), w.Authority(nil)
	if c.FromIndex != there.ModifyIndex {
		return refuse(command.Refusal_REFUSAL_CONFLICT, "the change of the certificate authority was worked out from version %d, and it is at version %d now", c.FromIndex, there.ModifyIndex)
	}
	if err := checkAuthority(a, w.Cluster(nil).TrustDomain); err != nil {
		return err
	}
	if a.Generation < there.Generation {
		return invalid("generation %d of the certificate authority cannot follow on generation %d", a.Generation, there.Generation)
	}
	if err := w.checkRotation(a.Rotation, there.Rotation); err != nil {
		return err
	}
	a.ModifyIndex = w.index
	w.put(authorityTable, a)
	return nil
}

// checkRotation also notes at which entry a phase began.
func (w *writer) checkRotation(r, before *apiv1.Rotation) error {
	if r == nil {
		return nil
	}
	if r.Phase == apiv1.Rotation_PHASE_UNSPECIFIED {
		return invalid("the rotation of the certificate authority has no phase")
	}
	if r.Next != nil {
		if err := checkAuthority(r.Next, w.Cluster(nil).TrustDomain); err != nil {
			return errorIn(err, "what comes after the rotation")
		}
	}
	r.PhaseIndex = w.index
	if before != nil && before.Phase == r.Phase {
		r.PhaseIndex = before.PhaseIndex
	}
	return nil
}

func (w *writer) setGossipKeys(c *command.SetGossipKeys) error {
	k, there := proto.CloneOf(c.Keys), w.GossipKeys(nil)
	if c.FromIndex != there.GetModifyIndex() {
		return refuse(command.Refusal_REFUSAL_CONFLICT, "the change of the gossip keys was worked out from version %d, and they are at version %d now", c.FromIndex, there.GetModifyIndex())
	}
	if len(k.GetSealed()) == 0 {
		return invalid("there is no gossip key: servers need one to find each other")
	}
	for i, sealed := range k.Sealed {
		if len(sealed) == 0 {
			return invalid("gossip key %d is empty", i+1)
		}
	}
	k.ModifyIndex = w.index
	w.put(gossipTable, k)
	return nil
}
