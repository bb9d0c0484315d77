package ca

import (
	"cmp"
	"slices"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

// A Census is how far servers and hosts have taken over the authority, as far as
// they could be asked.
type Census struct {
	Servers map[string]Standing // by id
	Hosts   map[string]Standing // by name
}

// A Standing is how far one server or host has come.
type Standing struct {
	Index      uint64 // of the state whose trust anchors it has
	Generation uint64 // the lowest among its certificates
}

// Members are those who may have to be waited for.
type Members struct {
	Servers []*apiv1.Server
	Nodes   []*apiv1.Node
	Mesh    *apiv1.Mesh
}

// Waiting names the servers and hosts that have to come along before the
// rotation of the root can go on.
//
// Servers are waited for in any case: one that missed the change could not come
// back. Of hosts those that are alive are; those that are away only as long as
// they may hold certificates that are to be replaced, or, while nothing would
// lead them from the old root to the new one, may come back to be told.
func Waiting(a *apiv1.Authority, m Members, c Census, now time.Time) (names []string) {
	away, over := waitsForAway(a), !now.Before(Deadline(a, m.Mesh))
	for _, s := range m.Servers {
		if !c.Servers[s.Id].reached(a) {
			names = append(names, "server "+s.Name)
		}
	}
	for _, n := range m.Nodes {
		alive := n.State == apiv1.NodeState_NODE_STATE_ALIVE
		lost := n.State == apiv1.NodeState_NODE_STATE_LOST
		if !c.Hosts[n.Name].reached(a) && (alive && !(over && renewing(a)) || lost && away && !over) {
			names = append(names, "host "+n.Name)
		}
	}
	slices.SortFunc(names, cmp.Compare)
	return names
}

func (s Standing) reached(a *apiv1.Authority) bool {
	return s.Index >= a.GetModifyIndex() && (!renewing(a) || s.Generation >= a.GetGeneration())
}

func renewing(a *apiv1.Authority) bool {
	return a.GetRotation().GetPhase() == apiv1.Rotation_PHASE_RENEW
}

func waitsForAway(a *apiv1.Authority) bool {
	return renewing(a) || a.GetRotation().GetPhase() == apiv1.Rotation_PHASE_TRUST && !crossSigned(a.GetRotation().GetNext())
}

// Deadline is until when a phase waits for hosts that are away, zero if it does
// not: by then their certificates have ended.
func Deadline(a *apiv1.Authority, config *apiv1.Mesh) time.Time {
	if !waitsForAway(a) {
		return time.Time{}
	}
	life := max(mesh.EffectiveCertificateTTL(config), mesh.DefaultCertificateTTL)
	return time.Unix(a.Rotation.PhaseUnix, 0).Add(life)
}

// ReissueTime is when the issuing certificate is to be replaced: after two thirds
// of its life.
func ReissueTime(a *Authority) time.Time {
	c := a.issuer.Issuing
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}

// Expiry is when the issuing certificate ends.
func Expiry(a *Authority) time.Time { return a.issuer.Issuing.NotAfter }
