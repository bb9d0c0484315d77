package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
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
	faults map[string]*fault
}

// bubble runs f with n servers, "s1" and so on, of which s1 was the first.
func bubble(t *testing.T, n int, timing Timing, f func(*cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{
			T: t, net: memnet.New(), timing: map[string]Timing{"": timing}, gate: newGate(),
			dirs: map[string]string{}, hosts: map[string]*memnet.Host{}, stores: map[string]*Store{}, faults: map[string]*fault{},
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
	c.faults[id] = &fault{}
	c.hosts[id] = c.net.Host(id, netip.AddrFrom4([4]byte{10, 0, 0, id[1] - '0'}))
}

// settle waits until all servers have all entries.
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
		Timing: timing, NoSync: true, beforeWrite: c.faults[id].before,
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
