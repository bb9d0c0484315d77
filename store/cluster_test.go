package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/store/command"
)

// A cluster is some servers on a network in memory, in a synctest bubble.
type cluster struct {
	*testing.T
	net    *memnet.Net
	timing map[string]Timing // by server, and "" for the others
	gate   *gate
	dirs   map[string]string
	hosts  map[string]*memnet.Host
	stores map[string]*Store
}

// bubble runs f with n servers, "s1" and so on, of which s1 was the first.
func bubble(t *testing.T, n int, timing Timing, f func(*cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{
			T: t, net: memnet.New(), timing: map[string]Timing{"": timing}, gate: newGate(),
			dirs: map[string]string{}, hosts: map[string]*memnet.Host{}, stores: map[string]*Store{},
		}
		defer c.stopAll()
		for i := range n {
			id := fmt.Sprintf("s%d", i+1)
			c.addHost(id)
			c.start(id)
		}
		c.must(c.stores["s1"].Bootstrap())
		leader := c.leaderSeenBy("s1")
		c.apply(leader, initCluster())
		for i := range n {
			id := fmt.Sprintf("s%d", i+1)
			c.must(leader.AddVoter(t.Context(), id, c.address(id)))
		}
		c.settle(leader)
		f(c)
	})
}

func (c *cluster) addHost(id string) {
	c.dirs[id] = c.TempDir()
	c.hosts[id] = c.net.Host(id, netip.AddrFrom4([4]byte{10, 0, 0, id[1] - '0'}))
}

// settle waits until all servers have all entries. Raft does not let a server
// vote for one that it does not know to be a member, so that a follower must
// have heard of the newest member before the leader may be lost.
func (c *cluster) settle(leader *Store) {
	index := c.write(leader, "settled").Index
	for id := range c.stores {
		c.sees(id, index)
	}
}

func (c *cluster) address(id string) string { return c.hosts[id].IP().String() + ":7300" }

func (c *cluster) config(id string) Config {
	timing, ok := c.timing[id]
	if !ok {
		timing = c.timing[""]
	}
	listener, err := c.hosts[id].Listen(c.Context(), "tcp", ":7300")
	c.must(err)
	return Config{
		ID: id, Address: c.address(id), Dir: c.dirs[id], Stream: &layer{listener, c.hosts[id], c.gate},
		Logger: slog.New(slog.NewTextHandler(c.Output(), nil)).With("server", id),
		Timing: timing, NoSync: true,
	}
}

func (c *cluster) start(id string) *Store {
	c.Helper()
	s, err := Open(c.config(id))
	c.must(err)
	c.stores[id] = s
	return s
}

func (c *cluster) stop(id string) {
	c.Helper()
	c.must(c.stores[id].Shutdown())
	delete(c.stores, id)
}

func (c *cluster) stopAll() {
	for id := range c.dirs {
		if c.stores[id] != nil {
			c.stop(id)
		}
	}
}

// pass lets that much of the bubble's time pass.
func (c *cluster) pass(d time.Duration) { <-time.After(d) }

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// leaderSeenBy waits until a server knows of a leader other than those given,
// and that one of being it.
func (c *cluster) leaderSeenBy(id string, not ...string) *Store {
	c.Helper()
	for {
		l, changed := c.stores[id].WatchLeader()
		if l.ID == "" || slices.Contains(not, l.ID) {
			<-changed
			continue
		}
		leader := c.stores[l.ID]
		its, itsChanged := leader.WatchLeader()
		if its.Leads {
			return leader
		}
		select {
		case <-changed:
		case <-itsChanged:
		}
	}
}

func (c *cluster) apply(s *Store, msg proto.Message) *command.Result {
	c.Helper()
	result, err := s.Apply(c.Context(), msg)
	c.must(err)
	if result.Refusal != 0 {
		c.Fatalf("%v: %s", result.Refusal, result.Message)
	}
	return result
}

// write makes the service with that name.
func (c *cluster) write(s *Store, name string) *command.Result {
	c.Helper()
	return c.apply(s, put(name))
}

// writeVia is write through whatever leader a server knows, other than those
// given. Elections may take a few turns to come to rest.
func (c *cluster) writeVia(id, name string, not ...string) *command.Result {
	c.Helper()
	for {
		result, err := c.leaderSeenBy(id, not...).Apply(c.Context(), put(name))
		if err == nil && result.Refusal == 0 {
			return result
		}
		if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrOutcomeUnknown) {
			c.Fatalf("writing %q: %v %v", name, result, err)
		}
		c.pass(time.Millisecond)
	}
}

func put(name string) *command.SetResources {
	return &command.SetResources{Put: []*apiv1.Resource{{
		Name: name, Spec: &apiv1.Resource_Service{Service: &apiv1.Service{}},
	}}}
}

// sees waits until a server has applied the entry with that index, and checks
// that it has the services.
func (c *cluster) sees(id string, index uint64, names ...string) {
	c.Helper()
	txn, err := c.stores[id].ReadAt(c.Context(), index)
	c.must(err)
	for _, name := range names {
		if txn.Service(nil, name) == nil {
			c.Fatalf("server %s does not have %q", id, name)
		}
	}
}

// follower is a server other than the leader.
func (c *cluster) follower(leader *Store) string {
	for _, id := range []string{"s1", "s2", "s3"} {
		if c.stores[id] != nil && c.stores[id] != leader {
			return id
		}
	}
	c.Fatal("there is only the leader")
	return ""
}

func (c *cluster) isolate(id string) { c.net.Isolate(c.hosts[id]) }

func initCluster() *command.InitCluster {
	return &command.InitCluster{
		Cluster: &apiv1.Cluster{Id: "c1", Name: "test", TrustDomain: "test.mesh"},
		Authority: &apiv1.Authority{
			TrustDomain: "test.mesh", RootCertificate: []byte("root"), IssuingCertificate: []byte("issuing"), SealedIssuingKey: []byte("key"),
		},
		Server: &apiv1.Server{
			Id: "s1", Name: "vm1", Address: "10.0.0.1:7300", GossipAddress: "10.0.0.1:7301", KeyHash: bytes.Repeat([]byte{1}, 32),
		},
	}
}

func TestThreeServers(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		result := c.write(leader, "web")
		for id := range c.stores {
			c.sees(id, result.Index, "web")
		}
		follower := c.stores[c.follower(leader)]
		_, err := follower.Apply(c.Context(), put("other"))
		var notLeader *NotLeaderError
		if !errors.As(err, &notLeader) || !errors.Is(err, ErrNotLeader) || notLeader.ID != leader.config.ID || notLeader.Address != leader.config.Address {
			c.Errorf("Apply on a follower: %v", err)
		}
		if _, err := follower.Read(c.Context(), Linearizable); !errors.Is(err, ErrNotLeader) {
			c.Errorf("a linearizable read on a follower: %v", err)
		}
		if err := follower.Bootstrap(); !errors.Is(err, ErrBootstrapped) {
			c.Errorf("Bootstrap of a member: %v", err)
		}
		if err := follower.Barrier(c.Context()); !errors.Is(err, ErrNotLeader) {
			c.Errorf("Barrier on a follower: %v", err)
		}
	})
}

func TestRefusalIsAResult(t *testing.T) {
	bubble(t, 1, Timing{}, func(c *cluster) {
		result, err := c.stores["s1"].Apply(c.Context(), &command.RemoveToken{Id: "none"})
		c.must(err)
		if result.Refusal != command.Refusal_REFUSAL_NOT_FOUND || result.Index == 0 {
			c.Errorf("%v", result)
		}
		if _, err := c.stores["s1"].Apply(c.Context(), &apiv1.Node{}); err == nil {
			c.Error("what is no command was applied")
		}
		large := put("large")
		large.Put[0].GetService().Balance = &apiv1.Balance{Policy: string(make([]byte, maxEntry))}
		if _, err := c.stores["s1"].Apply(c.Context(), large); !errors.Is(err, ErrTooLarge) {
			c.Errorf("a large change: %v", err)
		}
	})
}

// When the leader is cut off, the others soon have a new one, and the old one
// neither acknowledges nor answers.
func TestLeaderLost(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		old := c.leaderSeenBy("s1")
		c.write(old, "before")
		start := time.Now()
		c.isolate(old.config.ID)

		done := make(chan error, 1)
		go func() {
			_, err := old.Apply(c.Context(), put("lost"))
			done <- err
		}()
		if _, err := old.Read(c.Context(), Linearizable); !errors.Is(err, ErrNotLeader) {
			c.Errorf("the deposed leader answered: %v", err)
		}
		if err := <-done; !errors.Is(err, ErrOutcomeUnknown) {
			c.Errorf("the deposed leader's write: %v", err)
		}
		index := c.writeVia(c.follower(old), "after", old.config.ID).Index
		if gap := time.Since(start); gap > 6*time.Second {
			c.Errorf("no write for %v", gap)
		}
		if old.IsLeader() {
			c.Error("there are two leaders")
		}
		txn, err := old.Read(c.Context(), Stale)
		c.must(err)
		if txn.Service(nil, "after") != nil {
			c.Error("the network is not cut")
		}
		c.net.Heal()
		c.sees(old.config.ID, index, "before", "after")
	})
}

func TestLinearizableReads(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		for i := range 20 {
			name := fmt.Sprintf("web%d", i)
			c.write(leader, name)
			txn, err := leader.Read(c.Context(), Linearizable)
			c.must(err)
			if txn.Service(nil, name) == nil {
				c.Fatalf("a read does not show %q", name)
			}
			index, err := leader.ReadIndex(c.Context())
			c.must(err)
			c.sees(c.follower(leader), index, name)
		}
		// The newest entries are no commands, and are not waited for.
		c.must(leader.Barrier(c.Context()))
		c.must(leader.AddVoter(c.Context(), leader.config.ID, leader.config.Address))
		_, err := leader.Read(c.Context(), Linearizable)
		c.must(err)
	})
}

// A new leader's first read shows what its predecessor has acknowledged.
func TestReadAfterHandover(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		for i := range 5 {
			leader := c.leaderSeenBy("s1")
			c.write(leader, fmt.Sprintf("web%d", i))
			start := time.Now()
			c.must(leader.TransferLeadership(c.Context(), c.follower(leader)))
			next := c.leaderSeenBy("s1", leader.config.ID)
			if gap := time.Since(start); gap > 300*time.Millisecond {
				c.Errorf("handing over took %v", gap)
			}
			txn, err := next.Read(c.Context(), Linearizable)
			c.must(err)
			if txn.Service(nil, fmt.Sprintf("web%d", i)) == nil {
				c.Fatalf("a new leader does not know web%d", i)
			}
		}
	})
}

func TestAllStopAndStartAgain(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		var index uint64
		var names []string
		for i := range 30 {
			names = append(names, fmt.Sprintf("web%d", i))
			index = c.write(c.leaderSeenBy("s1"), names[i]).Index
		}
		c.stopAll()
		for id := range c.dirs {
			c.start(id)
		}
		leader := c.leaderSeenBy("s1")
		for id := range c.stores {
			c.sees(id, index, names...)
		}
		c.write(leader, "more")
	})
}

// Killed at one moment, the servers have on disk what they acknowledged.
func TestAllAreKilled(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		var index uint64
		for i := range 10 {
			index = c.write(leader, fmt.Sprintf("web%d", i)).Index
		}
		synctest.Wait()
		copies := map[string]string{}
		for id, dir := range c.dirs {
			copies[id] = filepath.Join(c.TempDir(), id)
			c.must(os.CopyFS(copies[id], os.DirFS(dir)))
		}
		c.stopAll()
		c.dirs = copies
		for id := range c.dirs {
			c.start(id)
		}
		leader = c.leaderSeenBy("s1")
		c.sees(leader.config.ID, index, "web0", "web9")
	})
}

// Alone, a server shows what it knows to be committed, so that agents that are
// left with it do not go back in time.
func TestAloneAfterRestart(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		index := c.write(leader, "web").Index
		c.write(leader, "later") // tells the followers that the one before is committed
		id := c.follower(leader)
		c.sees(id, index)
		c.stopAll()
		s := c.start(id)
		txn, err := s.Read(c.Context(), Stale)
		c.must(err)
		if txn.Index(nil) < index || txn.Service(nil, "web") == nil {
			c.Errorf("alone, the server is at index %d and was at %d", txn.Index(nil), index)
		}
		members, err := s.Servers()
		c.must(err)
		if len(members) != 3 {
			c.Errorf("alone, the server knows the members %v", members)
		}
	})
}

// Far more entries are replayed than Raft itself could.
func TestLongReplay(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 9,000 entries")
	}
	bubble(t, 1, Timing{}, func(c *cluster) {
		s := c.stores["s1"]
		var last *command.Result
		for range 9000 {
			last = c.apply(s, &command.SetResources{})
		}
		c.stop("s1")
		s = c.start("s1")
		if at := s.db.Read().Index(nil); at < last.Index-1 {
			c.Errorf("started at index %d of %d", at, last.Index)
		}
		c.write(c.leaderSeenBy("s1"), "web")
	})
}
