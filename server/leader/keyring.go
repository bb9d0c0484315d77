package leader

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/store/command"
)

// Keys are the keys of gossip as this server deals with them.
type Keys interface {
	// Seal makes keys fit for the state, and Open gives those that it holds.
	Seal([]gossip.Key) [][]byte
	Open(*apiv1.GossipKeys) ([]gossip.Key, error)
	// Own are those that this server works with, InUse their fingerprints.
	Own() []gossip.Key
	InUse() []string
}

// rotateKeys takes a rotation of gossip keys one step on, once all servers that
// are alive have taken the step before: a new key is understood by all before any
// sends with it, and the old one is not sent with any more before it goes. All
// that it goes by is in the state, so any leader can go on.
func (l *Loops) rotateKeys(ctx context.Context) {
	txn := l.cfg.Replica.Local()
	stored := txn.GossipKeys(nil)
	var next *apiv1.GossipKeys
	switch {
	case txn.FeatureLevel(nil) < command.LevelOf(command.TypeSetGossipKeys):
		return
	case stored == nil:
		next = &apiv1.GossipKeys{Sealed: l.cfg.Keys.Seal(l.cfg.Keys.Own())}
	case len(stored.Sealed) < 2 || !l.allUse(ctx, stored):
		return
	default:
		next = nextKeys(stored, time.Now())
	}
	err := l.audited(ctx, "keyring rotate", "gossip keys", &command.SetGossipKeys{Keys: next, FromIndex: stored.GetModifyIndex()})
	if err != nil {
		l.log.Error("the gossip keys could not be changed; trying again", "error", err)
	}
}

// nextKeys is the step after the present one: the newest key becomes the one to
// send with, or those that nobody sends with any more go.
func nextKeys(k *apiv1.GossipKeys, now time.Time) *apiv1.GossipKeys {
	next := proto.CloneOf(k)
	last := len(k.Sealed) - 1
	if k.Retiring > 0 {
		next.Sealed = next.Sealed[:max(1, len(k.Sealed)-int(k.Retiring))]
		next.Retiring = 0
		return next
	}
	next.Sealed = append([][]byte{k.Sealed[last]}, k.Sealed[:last]...)
	next.Retiring, next.RotatedUnix = uint32(last), now.Unix()
	return next
}

// allUse asks the servers whether they have taken over the keys. Those that do not
// answer and are not alive by gossip get them by Raft when they come back.
func (l *Loops) allUse(ctx context.Context, stored *apiv1.GossipKeys) bool {
	keys, err := l.cfg.Keys.Open(stored)
	if err != nil {
		l.log.Error("the gossip keys in the state cannot be used", "error", err)
		return false
	}
	var want []string
	for _, key := range keys {
		want = append(want, key.Fingerprint())
	}
	lacking := l.lacking(ctx, want)
	if len(lacking) > 0 {
		l.log.Debug("the rotation of gossip keys waits", "for", lacking)
	}
	return len(lacking) == 0
}

func (l *Loops) lacking(ctx context.Context, want []string) (names []string) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	alive := l.alive()
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, s := range l.cfg.Replica.Local().Servers(nil) {
		asking.Go(func() {
			inUse, err := l.keysOf(ctx, s)
			if err == nil && slices.Equal(inUse, want) || err != nil && !alive[s.Id] {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			names = append(names, s.Name)
		})
	}
	asking.Wait()
	return names
}

func (l *Loops) keysOf(ctx context.Context, s *apiv1.Server) ([]string, error) {
	if s.Id == l.cfg.Self {
		return l.cfg.Keys.InUse(), nil
	}
	p, err := l.cfg.Replica.Progress(ctx, s.Id, s.Address)
	return p.GetGossipKeys(), err
}
