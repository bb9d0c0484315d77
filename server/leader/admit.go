package leader

import (
	"context"
	"fmt"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store"
)

const (
	// proveTimeout is how long a server may take to show, in one attempt, that
	// it can be a voter.
	proveTimeout  = 2 * time.Second
	proveInterval = 50 * time.Millisecond
)

// enoughVoters is from how many on a server must have been well for a while
// before it gets a vote. With fewer a mesh does not survive the loss of one
// server, and every second until it does counts for more.
const enoughVoters = 3

// admit lets a server follow Raft, or corrects its address, and makes it a voter
// at once if voters are short; otherwise autopilot does when it has been well for
// long enough. Raft counts a voter for majorities at once, whether it answers or
// not: a wrong address would end a mesh of one server for good. So the server
// must have answered there. It reports whether there is a voter more.
func (l *Loops) admit(ctx context.Context, s *apiv1.Server, m store.Member, voters int) (votes bool) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if !m.Voter && m.Address != s.Address {
		if err := l.cfg.Store.AddNonvoter(ctx, s.Id, s.Address); err != nil {
			l.log.Error("a server could not be added to Raft; trying again", "server", s.Name, "error", err)
			return false
		}
		l.log.Info("a server follows Raft", "server", s.Name, "id", s.Id, "address", s.Address)
	}
	if !m.Voter && voters >= enoughVoters {
		return false
	}
	if err := l.prove(ctx, s, m.Voter); err != nil {
		l.log.Warn("a server gets no vote until it answers at its address; trying again", "server", s.Name, "address", s.Address, "error", err)
		return false
	}
	if err := l.cfg.Store.AddVoter(ctx, s.Id, s.Address); err != nil {
		l.log.Error("a server could not be made a voter of Raft; trying again", "server", s.Name, "error", err)
		return false
	}
	l.log.Info("made a server a voter of Raft", "server", s.Name, "id", s.Id, "address", s.Address)
	return !m.Voter
}

// prove waits until a server has answered at its address and, unless it votes
// already and has only moved, has applied all that a majority has now. That
// contains the change of members which names the address: so Raft reaches it
// there.
func (l *Loops) prove(ctx context.Context, s *apiv1.Server, voter bool) (err error) {
	if s.Id == l.cfg.Self {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, proveTimeout)
	defer cancel()
	target := l.cfg.Store.Committed()
	for {
		progress, failure := l.cfg.Replica.Progress(ctx, s.Id, s.Address)
		switch {
		case failure == nil && (voter || progress.Applied >= target):
			return nil
		case failure == nil:
			err = fmt.Errorf("it has applied Raft's log to %d, and the others have it to %d", progress.Applied, target)
		case err == nil || ctx.Err() == nil:
			err = failure
		}
		if sleep(ctx, proveInterval); ctx.Err() != nil {
			return err
		}
	}
}
