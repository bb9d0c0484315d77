package rpc

import (
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/gossip"
)

// GossipKeys are the keys of gossip as one server deals with them.
type GossipKeys interface {
	// Seal makes keys fit for the state, and Open gives those that it holds.
	Seal([]gossip.Key) [][]byte
	Open(*apiv1.GossipKeys) ([]gossip.Key, error)
	// InUse are the fingerprints of those that gossip works with now, the one for
	// sending first.
	InUse() []string
}

// progress is how far this server has come.
func (r *Replica) progress(keys GossipKeys) *apiv1.ProgressReply {
	stats := r.store.Stats()
	return &apiv1.ProgressReply{
		Id: r.self, Applied: stats.Applied, LastIndex: stats.LastIndex, LastTerm: stats.LastTerm, Term: stats.Term,
		LastContact: durationpb.New(stats.LastContact), GossipKeys: keys.InUse(),
	}
}
