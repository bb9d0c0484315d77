package server

import (
	"context"
	"fmt"
	"slices"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/store/state"
)

const (
	// gossipKeyPurpose is what gossip keys are sealed for.
	gossipKeyPurpose = "gossip key"
	// gossipKeysLevel is the feature level from which on the state holds them.
	gossipKeysLevel = 2
)

// Seal makes keys fit for the state.
func (m *member) Seal(keys []gossip.Key) (sealed [][]byte) {
	for _, key := range keys {
		sealed = append(sealed, m.sealing.Seal(key[:], m.ClusterID, gossipKeyPurpose))
	}
	return sealed
}

// Open gives the keys that the state holds.
func (m *member) Open(stored *apiv1.GossipKeys) (keys []gossip.Key, err error) {
	for i, sealed := range stored.GetSealed() {
		key, err := m.sealing.Open(sealed, m.ClusterID, gossipKeyPurpose)
		if err != nil {
			return nil, fmt.Errorf("gossip key %d cannot be used: %w", i+1, err)
		}
		if len(key) != len(gossip.Key{}) {
			return nil, fmt.Errorf("gossip key %d has %d bytes, not %d", i+1, len(key), len(gossip.Key{}))
		}
		keys = append(keys, gossip.Key(key))
	}
	return keys, nil
}

// A keyring is the keys of gossip with all that is done with them.
type keyring struct {
	*member
	server *Server
}

func (s *Server) keyring() keyring { return keyring{s.member, s} }

// InUse are the fingerprints of the keys that gossip works with.
func (k keyring) InUse() []string { return k.server.gossip.Keys() }

// Own are the keys on this server's disk.
func (k keyring) Own() []gossip.Key {
	k.server.gossipKeys.Lock()
	defer k.server.gossipKeys.Unlock()
	return k.server.member.gossip
}

// followGossipKeys takes over the keys in the state until ctx ends. They come by
// Raft, over TLS: so a server that was away while they changed needs none of
// them to get the new ones.
func (s *Server) followGossipKeys(ctx context.Context) {
	for {
		var ws state.WatchSet
		if stored := s.replica.Local().GossipKeys(&ws); stored != nil {
			s.complain("taking over the gossip keys", s.takeGossipKeys(stored))
		}
		if ws.Wait(ctx) != nil {
			return
		}
	}
}

func (s *Server) takeGossipKeys(stored *apiv1.GossipKeys) error {
	keys, err := s.member.Open(stored)
	if err != nil {
		return err
	}
	s.gossipKeys.Lock()
	defer s.gossipKeys.Unlock()
	if slices.Equal(keys, s.member.gossip) {
		return nil
	}
	if err := s.dir.writeGossipKeys(keys); err != nil {
		return err
	}
	if err := s.gossip.SetKeys(keys); err != nil {
		return err
	}
	s.member.gossip = keys
	s.log.Info("took over the gossip keys", "fingerprints", s.gossip.Keys())
	return nil
}
