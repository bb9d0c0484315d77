package rpc

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

const (
	// keysTimeout bounds the question to the other servers which keys they use.
	keysTimeout = time.Second
	// rotationInterval is how often a rotation is looked after.
	rotationInterval = 200 * time.Millisecond
)

// ListGossipKeys tells which keys there are, and who uses them.
func (s *admin) ListGossipKeys(ctx context.Context, _ *apiv1.ListGossipKeysRequest) (*apiv1.ListGossipKeysReply, error) {
	txn, err := s.replica.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	stored, keys, err := s.gossipKeys(txn)
	if err != nil {
		return nil, err
	}
	inUse := s.keysInUse(ctx, txn)
	reply := &apiv1.ListGossipKeysReply{RotatedUnix: stored.RotatedUnix}
	for i, key := range keys {
		row := &apiv1.GossipKey{Fingerprint: key.Fingerprint(), Primary: i == 0}
		for _, server := range txn.Servers(nil) {
			if slices.Contains(inUse[server.Id], row.Fingerprint) {
				row.Servers = append(row.Servers, server.Name)
			}
		}
		slices.Sort(row.Servers)
		reply.Keys = append(reply.Keys, row)
	}
	return reply, nil
}

func (s *admin) gossipKeys(txn *state.Txn) (*apiv1.GossipKeys, []gossip.Key, error) {
	if err := txn.CheckLevel(&command.SetGossipKeys{}); err != nil {
		return nil, nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	stored := txn.GossipKeys(nil)
	if stored == nil {
		return nil, nil, status.Error(codes.Unavailable, "the gossip keys have not been taken into the state yet: try again in a few seconds")
	}
	keys, err := s.cfg.Keys.Open(stored)
	if err != nil {
		return nil, nil, status.Errorf(codes.Internal, "%v", err)
	}
	return stored, keys, nil
}

// keysInUse asks all servers at once. What does not answer is missing.
func (s *admin) keysInUse(ctx context.Context, txn *state.Txn) map[string][]string {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	inUse := map[string][]string{s.replica.self: s.cfg.Keys.InUse()}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, server := range txn.Servers(nil) {
		if server.Id == s.replica.self {
			continue
		}
		asking.Go(func() {
			p, err := s.replica.Progress(ctx, server.Id, server.Address)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			inUse[server.Id] = p.GossipKeys
		})
	}
	asking.Wait()
	return inUse
}

// RotateGossipKey adds a new key, which the leader then makes the only one. If a
// rotation is under way already, this is about that.
func (s *admin) RotateGossipKey(ctx context.Context, _ *apiv1.RotateGossipKeyRequest) (*apiv1.RotateGossipKeyReply, error) {
	txn, err := s.replica.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	stored, keys, err := s.gossipKeys(txn)
	if err != nil {
		return nil, err
	}
	key := keys[0]
	switch {
	case len(keys) == 1:
		key = gossip.NewKey()
		next := &apiv1.GossipKeys{Sealed: append(stored.Sealed[:1:1], s.cfg.Keys.Seal([]gossip.Key{key})...), RotatedUnix: stored.RotatedUnix}
		if _, err := s.change(ctx, "keyring rotate", []string{"gossip-key/" + key.Fingerprint()}, &command.SetGossipKeys{Keys: next, FromIndex: stored.ModifyIndex}); err != nil {
			return nil, err
		}
	case stored.Retiring == 0:
		key = keys[len(keys)-1]
	}
	return &apiv1.RotateGossipKeyReply{Fingerprint: key.Fingerprint()}, s.awaitOnly(ctx, key)
}

// awaitOnly waits until all servers that are alive use no other key.
func (s *admin) awaitOnly(ctx context.Context, key gossip.Key) error {
	for {
		waiting := s.notOnly(ctx, key.Fingerprint())
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-time.After(rotationInterval):
		case <-ctx.Done():
			return status.Errorf(codes.DeadlineExceeded, "the rotation to key %s goes on by itself and waits for %q: see meshd keyring list", key.Fingerprint(), waiting)
		}
	}
}

func (s *admin) notOnly(ctx context.Context, fingerprint string) (names []string) {
	alive := map[string]bool{s.replica.self: true}
	for _, p := range s.cfg.Peers() {
		alive[p.ID] = alive[p.ID] || p.Alive
	}
	txn := s.replica.Local()
	inUse := s.keysInUse(ctx, txn)
	for _, server := range txn.Servers(nil) {
		keys, answered := inUse[server.Id]
		if (answered || alive[server.Id]) && !slices.Equal(keys, []string{fingerprint}) {
			names = append(names, server.Name)
		}
	}
	return names
}
