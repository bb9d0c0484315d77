package state

import (
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

func TestChangeAuthority(t *testing.T) {
	m := newMesh(t)
	there := m.db.Read().Authority(nil)
	f := func(kind command.Refusal, want string, spoil func(*command.ChangeAuthority)) {
		t.Helper()
		c := &command.ChangeAuthority{Authority: rotating(there), FromIndex: there.ModifyIndex}
		spoil(c)
		m.refused(c, kind, want)
	}
	f(isConflict, "worked out from version 3, and it is at version 11 now", func(c *command.ChangeAuthority) { c.FromIndex = 3 })
	f(isInvalid, "trust domain", func(c *command.ChangeAuthority) { c.Authority.TrustDomain = "other.mesh" })
	f(isInvalid, "issuing", func(c *command.ChangeAuthority) { c.Authority.IssuingCertificate = nil })
	f(isInvalid, "no phase", func(c *command.ChangeAuthority) { c.Authority.Rotation.Phase = 0 })
	f(isInvalid, "after the rotation", func(c *command.ChangeAuthority) { c.Authority.Rotation.Next.SealedIssuingKey = nil })

	// Who begins a phase cannot know at which entry it begins.
	step := func(phase apiv1.Rotation_Phase, change func(*apiv1.Authority), began uint64) {
		t.Helper()
		there := m.db.Read().Authority(nil)
		next := rotating(there)
		next.Rotation.Phase, next.Rotation.PhaseIndex = phase, 999
		change(next)
		m.ok(&command.ChangeAuthority{Authority: next, FromIndex: there.ModifyIndex})
		if got := m.db.Read().Authority(nil); got.ModifyIndex != m.index || got.Rotation.PhaseIndex != began {
			t.Fatalf("at %d: %v, want the phase to have begun at %d", m.index, got, began)
		}
	}
	nothing := func(*apiv1.Authority) {}
	step(apiv1.Rotation_PHASE_TRUST, nothing, m.index+1)
	trusted := m.index
	step(apiv1.Rotation_PHASE_TRUST, func(a *apiv1.Authority) { a.OtherRoots = nil }, trusted)
	step(apiv1.Rotation_PHASE_RENEW, nothing, m.index+1)

	there = m.db.Read().Authority(nil)
	older := proto.CloneOf(there)
	older.Generation--
	m.refused(&command.ChangeAuthority{Authority: older, FromIndex: there.ModifyIndex}, isInvalid, "cannot follow on generation 3")
	done := proto.CloneOf(there)
	done.Rotation = nil
	m.ok(&command.ChangeAuthority{Authority: done, FromIndex: there.ModifyIndex})
	m.refused(&command.ChangeAuthority{Authority: done, FromIndex: there.ModifyIndex}, isConflict, "now")
}

func TestGossipKeys(t *testing.T) {
	m := newMesh(t)
	keys := &apiv1.GossipKeys{Sealed: [][]byte{[]byte("a"), []byte("b")}, RotatedUnix: now}
	m.refused(&command.SetGossipKeys{}, isInvalid, "no gossip key")
	m.refused(&command.SetGossipKeys{Keys: &apiv1.GossipKeys{Sealed: [][]byte{nil}}}, isInvalid, "key 1 is empty")
	m.refused(&command.SetGossipKeys{Keys: keys, FromIndex: 5}, isConflict, "version 5, and they are at version 0 now")
	m.ok(&command.SetGossipKeys{Keys: keys})
	want := proto.CloneOf(keys)
	want.ModifyIndex = m.index
	m.same(want, m.db.Read().GossipKeys(nil))
	m.refused(&command.SetGossipKeys{Keys: keys}, isConflict, "now")
	m.ok(&command.SetGossipKeys{Keys: keys, FromIndex: want.ModifyIndex})

	c := initCluster()
	c.GossipKeys = keys
	fresh := &testMesh{T: t, db: New()}
	fresh.ok(c)
	want.ModifyIndex = fresh.index
	fresh.same(want, fresh.db.Read().GossipKeys(nil))
	c.GossipKeys = &apiv1.GossipKeys{}
	(&testMesh{T: t, db: New()}).refused(c, isInvalid, "no gossip key")
}
