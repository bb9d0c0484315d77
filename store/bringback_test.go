package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// level2 raises the mesh to the level that restoring needs.
func (c *cluster) level2(s *Store) {
	self := initCluster().Server
	self.FeatureLevel = command.MaxLevel
	c.apply(s, &command.PutServer{Server: self})
	c.apply(s, &command.SetFeatureLevel{Level: command.MaxLevel})
}

// bulk makes services with configuration of about n bytes together.
func (c *cluster) bulk(s *Store, n int) {
	for i := 0; n > 0; i++ {
		r := put(fmt.Sprintf("bulk%d", i))
		spec := &apiv1.Service{Subsets: map[string]*apiv1.Subset{"x": {Match: map[string]string{"meta.x": string(bytes.Repeat([]byte{'x'}, 64<<10))}}}}
		r.Put[0].Spec = &apiv1.Resource_Service{Service: spec}
		c.apply(s, r)
		n -= 64 << 10
	}
}

// A saved state comes back on every server at the same index, also on one that
// was down meanwhile, and not half of it when the leader is lost on the way.
func TestRestoreSnapshot(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		c.level2(leader)
		c.bulk(leader, 3*pieceSize)
		saved, meta := c.saved(leader)
		c.write(leader, "later")

		calls := 0
		_, err := RestoreSnapshot(c.Context(), bytes.NewReader(saved), false, func(ctx context.Context, msg proto.Message) (*command.Result, error) {
			if calls++; calls == 3 {
				return nil, ErrNotLeader
			}
			return leader.Apply(ctx, msg)
		})
		if !errors.Is(err, ErrNotLeader) || leader.db.Read().Resource(nil, "service", "later") == nil {
			c.Fatalf("broken off: %v", err)
		}

		away := c.follower(leader)
		c.stop(away)
		result, err := RestoreSnapshot(c.Context(), bytes.NewReader(saved), false, leader.Apply)
		c.must(err)
		if result.Refusal != 0 || len(result.Changes) == 0 {
			c.Fatalf("%v", result)
		}
		c.start(away)
		for id := range c.stores {
			txn, err := c.stores[id].ReadAt(c.Context(), result.Index)
			c.must(err)
			if txn.Resource(nil, "service", "later") != nil || txn.Resource(nil, "service", "bulk1") == nil || txn.RestoredIndex(nil) != result.Index {
				c.Errorf("server %s has not gone back to %d", id, meta.Index)
			}
		}
	})
}

func TestRestoreSnapshotRefuses(t *testing.T) {
	bubble(t, 1, Timing{}, func(c *cluster) {
		leader := c.stores["s1"]
		c.bulk(leader, 2*pieceSize)
		saved, _ := c.saved(leader)
		result, err := RestoreSnapshot(c.Context(), bytes.NewReader(saved), false, leader.Apply)
		c.must(err)
		if result.Refusal != command.Refusal_REFUSAL_FEATURE_LEVEL {
			c.Errorf("%v", result)
		}
		c.level2(leader)
		saved[len(saved)-1] ^= 1
		if _, err := RestoreSnapshot(c.Context(), bytes.NewReader(saved), false, nil); err == nil {
			c.Error("a damaged snapshot was proposed")
		}
		other := initCluster()
		other.Cluster.Id = "c2"
		db := state.New()
		db.Apply(1, other)
		var foreign bytes.Buffer
		_, err = writeArchive(&foreign, db.Snapshot(), SnapshotMeta{})
		c.must(err)
		result, err = RestoreSnapshot(c.Context(), bytes.NewReader(foreign.Bytes()), false, leader.Apply)
		c.must(err)
		if result.Refusal != command.Refusal_REFUSAL_CONFLICT {
			c.Errorf("%v", result)
		}
		result, err = RestoreSnapshot(c.Context(), bytes.NewReader(foreign.Bytes()), true, leader.Apply)
		c.must(err)
		if result.Refusal != 0 {
			c.Errorf("%v", result)
		}
	})
}
