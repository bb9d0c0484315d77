package store

import (
	"testing"

	"github.com/hashicorp/raft"

	"github.com/meshd/meshd/internal/memnet"
)

// A server has just become a voter and the leader is lost before the third heard
// of it: the two that are left are a majority and elect one of them.
func TestLeaderLostRightAfterAnAddition(t *testing.T) {
	f := func(followsFirst bool) {
		t.Helper()
		bubble(t, 2, Timing{}, func(c *cluster) {
			leader := c.leaderSeenBy("s1")
			old := c.follower(leader)
			c.addHost("s3")
			c.start("s3")
			if followsFirst {
				c.must(leader.AddNonvoter(c.Context(), "s3", c.address("s3")))
				c.settle(leader)
			}
			c.net.Partition([]*memnet.Host{c.hosts[leader.config.ID]}, []*memnet.Host{c.hosts[old]})
			c.must(leader.AddVoter(c.Context(), "s3", c.address("s3")))
			c.isolate(leader.config.ID)
			index := c.writeVia(old, "web", leader.config.ID).Index
			if members, err := c.stores[old].Servers(); err != nil || len(members) != 3 || !members[2].Voter {
				c.Errorf("members %v, %v", members, err)
			}
			c.net.Heal()
			c.sees(leader.config.ID, index, "web")
		})
	}
	f(false)
	f(true)
}

// Who was removed is not let in by the back door: its log ends before those of
// the others, and so does that of one that is as far as they are.
func TestOnlyALongerLogVouches(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		s := c.stores["s2"]
		own := s.Stats()
		f := func(id string, term, index uint64, want string) {
			t.Helper()
			vote := &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte(id)}, LastLogTerm: term, LastLogIndex: index}
			pre := &raft.RequestPreVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte(id)}, LastLogTerm: term, LastLogIndex: index}
			s.admitCandidate(vote)
			s.admitCandidate(pre)
			if string(vote.ID) != want || string(pre.ID) != want {
				t.Errorf("%s at %d, %d stands as %s and %s, want %s", id, term, index, vote.ID, pre.ID, want)
			}
		}
		f("s9", own.LastTerm, own.LastIndex-1, "s9")
		f("s9", own.LastTerm, own.LastIndex, "s9")
		f("s9", own.LastTerm-1, own.LastIndex+9, "s9")
		f("s9", own.LastTerm, own.LastIndex+1, "s2")
		f("s9", own.LastTerm+1, 1, "s2")
		f("s3", own.LastTerm, own.LastIndex+1, "s3")
	})
}
