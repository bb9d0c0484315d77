package leader

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

const (
	authorityInterval = time.Second
	// drainTime is how long connections have to end that were made before the last
	// certificate was renewed, before the old root is trusted no more: agents and
	// servers replace theirs within half of that.
	drainTime = time.Minute
	// remindInterval is how often the log tells of certificates that a person must
	// see to, which begins that long before their end.
	remindInterval = 24 * time.Hour
	remindBefore   = 90 * 24 * time.Hour
)

// A rotation is what the loop remembers of the one under way. A new leader begins
// anew, which costs a little time.
type rotation struct {
	index   uint64    // of the authority that this is about
	since   time.Time // when nobody had to be waited for any more, zero as long as somebody has
	waiting []string  // as logged last
	remind  time.Time // when to look at the ends of certificates again
}

// keepAuthority moves a rotation of the root on when all have come along, and
// renews the issuing certificate in time.
func (l *Loops) keepAuthority(ctx context.Context, r *rotation) {
	txn := l.cfg.Replica.Local()
	a := txn.Authority(nil)
	if a.GetModifyIndex() != r.index {
		*r = rotation{index: a.GetModifyIndex(), remind: r.remind}
	}
	if a.GetRotation() == nil {
		l.renewIssuing(ctx, a, r)
		return
	}
	if l.settled(ctx, txn, a, r) {
		l.moveOn(ctx, a)
	}
}

// settled reports whether the present phase is over.
func (l *Loops) settled(ctx context.Context, txn *state.Txn, a *apiv1.Authority, r *rotation) bool {
	config, _ := txn.MeshConfig(nil)
	members := ca.Members{Servers: txn.Servers(nil), Nodes: txn.Nodes(nil), Mesh: config}
	waiting := ca.Waiting(a, members, l.cfg.Census(ctx), time.Now())
	if !slices.Equal(waiting, r.waiting) {
		l.log.Info("rotation of the root", "phase", phaseWord(a), "waiting_for", len(waiting), "first", waiting[:min(len(waiting), 5)])
		r.waiting = waiting
	}
	switch {
	case len(waiting) > 0:
		r.since = time.Time{}
		return false
	case r.since.IsZero():
		r.since = time.Now()
	}
	return a.Rotation.Phase != apiv1.Rotation_PHASE_RENEW || time.Since(r.since) >= drainTime
}

func phaseWord(a *apiv1.Authority) string { return a.GetRotation().GetPhase().String() }

func (l *Loops) moveOn(ctx context.Context, a *apiv1.Authority) {
	next := ca.Advance(a, time.Now())
	if err := l.changeAuthority(ctx, "ca rotate", a, next); err != nil {
		l.log.Error("the rotation of the root could not be moved on; trying again", "phase", phaseWord(a), "error", err)
		return
	}
	if next.Rotation == nil {
		l.log.Info("the rotation of the root is complete", "generation", next.Generation)
		return
	}
	l.log.Info("the rotation of the root is in its next phase", "phase", phaseWord(next), "generation", next.Generation)
}

// renewIssuing replaces the issuing certificate when it is due, and reminds
// people of what only they can replace.
func (l *Loops) renewIssuing(ctx context.Context, a *apiv1.Authority, r *rotation) {
	if time.Now().Before(r.remind) {
		return
	}
	authority, err := l.cfg.Vault.Open(a)
	if err != nil {
		l.log.Error("the mesh's certificate authority cannot be used", "error", err)
		r.remind = time.Now().Add(time.Minute)
		return
	}
	r.remind = time.Now().Add(min(remindInterval, max(time.Until(ca.ReissueTime(authority)), time.Minute)))
	if root, err := x509.ParseCertificate(a.RootCertificate); err == nil && time.Until(root.NotAfter) < remindBefore {
		l.log.Warn("the mesh's root certificate is near its end: replace it with meshd ca rotate", "expires", root.NotAfter)
	}
	if time.Now().Before(ca.ReissueTime(authority)) {
		return
	}
	next, err := l.cfg.Vault.Reissue(a, time.Now())
	if err == nil {
		err = l.changeAuthority(ctx, "ca rotate --issuing", a, next)
	}
	switch {
	case errors.Is(err, ca.ErrNoParentKey):
		r.remind = time.Now().Add(remindInterval)
		l.log.Warn("the issuing certificate is due for renewal", "expires", ca.Expiry(authority), "error", err)
	case err != nil:
		l.log.Error("the issuing certificate could not be renewed; trying again", "error", err)
	default:
		l.log.Info("renewed the issuing certificate", "generation", next.Generation)
	}
}

// changeAuthority has the change recorded as this server's own.
func (l *Loops) changeAuthority(ctx context.Context, action string, from, to *apiv1.Authority) error {
	return l.audited(ctx, action, "authority", &command.ChangeAuthority{Authority: to, FromIndex: from.ModifyIndex})
}
