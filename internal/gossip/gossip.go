// Package gossip lets servers find each other and see each other die. What it
// says is a hint about liveness, never authority over membership.
package gossip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/meshd/meshd/internal/netx"
)

// Config of one member.
type Config struct {
	// Name is unique in the pool: the server's id.
	Name string
	// Bind is the address to listen on, tcp and udp, as host:port.
	Bind string
	// Advertise is where the others reach this member. Its IP address must be
	// given; port 0 stands for the port of Bind.
	Advertise netip.AddrPort
	// Keys encrypt and authenticate every message: the first one is used for
	// sending, all are understood.
	Keys []Key
	// Label keeps pools apart that happen to meet: the cluster's id.
	Label string
	// Tags are what the others are to know of this member.
	Tags    Tags
	Network netx.Network
	Logger  *slog.Logger
}

// Tags travel with a member; encoded they may take 512 bytes.
type Tags struct {
	Name    string `json:"n"` // of the server, for people
	Address string `json:"a"` // host:port of its TLS port
	Version string `json:"v"` // of its software
}

// State of a member, as the others see it.
type State string

const (
	Alive State = "alive"
	// Dead members answer no more: they died or were cut off.
	Dead State = "dead"
	// Left members have said that they go.
	Left State = "left"
)

// A Member of the pool.
type Member struct {
	ID      string // its Config.Name
	Address netip.AddrPort
	Tags    Tags
	State   State
}

// Gossip is one running member.
type Gossip struct {
	list      *memberlist.Memberlist
	transport *transport
	seen      *roster
	rejoin    *rejoiner
	keys      *keyring
	log       *logWriter
}

// Start makes a pool of one; Join merges it with others.
func Start(ctx context.Context, c Config) (*Gossip, error) {
	meta, err := json.Marshal(c.Tags)
	if err != nil {
		return nil, fmt.Errorf("encoding the gossip tags: %w", err)
	}
	if len(meta) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("gossip tags take %d bytes, more than %d: shorten the server's name", len(meta), memberlist.MetaMaxSize)
	}
	keys, err := newKeyring(c.Keys)
	if err != nil {
		return nil, err
	}
	t, err := listen(ctx, c.Network, c.Bind, c.Advertise, c.Logger)
	if err != nil {
		return nil, fmt.Errorf("opening the gossip port: %w", err)
	}
	seen := newRoster()
	log := quietly(c.Logger)
	mc := tuned(c, t)
	mc.Keyring = keys.ring
	mc.Logger = log.logger()
	mc.Delegate = delegate{meta, seen}
	mc.Events = seen
	list, err := memberlist.Create(mc)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting gossip: %w", err), t.Shutdown())
	}
	return &Gossip{list, t, seen, startRejoiner(list, seen, c.Name), keys, log}, nil
}

// tuned is for a pool of a few servers that must see a dead one in about three
// seconds: probes every 500 ms, suspicion for 1.5 to 3 s.
func tuned(c Config, t *transport) *memberlist.Config {
	mc := memberlist.DefaultLANConfig()
	mc.Name = c.Name
	mc.Label = c.Label
	mc.Transport = t
	mc.AdvertiseAddr = t.advertise.Addr().String()
	mc.AdvertisePort = int(t.advertise.Port())
	mc.ProbeInterval = 500 * time.Millisecond
	mc.ProbeTimeout = 250 * time.Millisecond
	mc.SuspicionMult = 3
	mc.SuspicionMaxTimeoutMult = 2
	mc.AwarenessMaxMultiplier = 4
	mc.GossipInterval = 100 * time.Millisecond
	mc.PushPullInterval = 10 * time.Second
	// A server that was restored with a new address must not wait for its
	// former self to be forgotten.
	mc.DeadNodeReclaimTime = 5 * time.Second
	mc.TCPTimeout = 5 * time.Second
	// A compressed packet can blow up when opened; messages are small anyway.
	mc.EnableCompression = false
	return mc
}

// Join merges this member's pool with those of the given addresses, each an IP
// address and a port, and reports an error if none could be reached. In any case
// it goes on trying in the background while this member is alone.
func (g *Gossip) Join(addresses []string) error {
	for _, a := range addresses {
		if _, err := netip.ParseAddrPort(a); err != nil {
			return fmt.Errorf("joining gossip at %q: it is no IP address with a port", a)
		}
	}
	g.rejoin.remember(addresses)
	n, err := g.list.Join(addresses)
	if n > 0 {
		return nil
	}
	return fmt.Errorf("joining gossip: %w", err)
}

// Members lists all that are known, this one included, ordered by id. Dead ones
// are listed for as long as this process lives, the latest of them if there were
// many.
func (g *Gossip) Members() []Member { return g.seen.members() }

// Address is where the others reach this member.
func (g *Gossip) Address() netip.AddrPort { return g.transport.advertise }

// Changes receives a value when Members may differ from before; several changes
// may be told at once. It is for one receiver.
func (g *Gossip) Changes() <-chan struct{} { return g.seen.changed }

// Keys are the fingerprints of the keys in use, that for sending first.
func (g *Gossip) Keys() []string { return g.keys.fingerprints() }

// SetKeys replaces the keys. Members that have none of them are strangers from
// then on.
func (g *Gossip) SetKeys(keys []Key) error { return g.keys.set(keys) }

// Leave tells the others that this member goes of its own will and waits until
// they have heard it, for timeout at most. They hold it for Left afterwards.
func (g *Gossip) Leave(timeout time.Duration) error {
	g.rejoin.halt()
	g.sayGoodbye(timeout)
	if err := g.list.Leave(timeout); err != nil {
		return fmt.Errorf("leaving gossip: %w", err)
	}
	return nil
}

// sayGoodbye tells every member by itself: memberlist knows those who left from
// those who died, and does not say.
func (g *Gossip) sayGoodbye(timeout time.Duration) {
	var telling sync.WaitGroup
	for _, n := range g.list.Members() {
		if n.Name != g.rejoin.self {
			// One that cannot be told will take this member for dead.
			telling.Go(func() { _ = g.list.SendReliable(n, goodbye(g.rejoin.self)) })
		}
	}
	told := make(chan struct{})
	g.rejoin.running.Go(func() { // what Stop cuts off, it waits for
		telling.Wait()
		close(told)
	})
	select {
	case <-told:
	case <-time.After(timeout):
	}
}

// Stop closes the port and its connections and waits for what was started here;
// probes that memberlist has under way end by themselves within seconds, without
// a word. Without Leave before it, the others will find this member dead.
func (g *Gossip) Stop() error {
	g.rejoin.halt()
	err := g.list.Shutdown()
	g.rejoin.running.Wait()
	g.log.mute()
	if err != nil {
		return fmt.Errorf("stopping gossip: %w", err)
	}
	return nil
}

// delegate hands this member's tags to memberlist, and takes what is said beside
// its own messages: goodbyes.
type delegate struct {
	meta []byte
	seen *roster
}

func (d delegate) NodeMeta(int) []byte           { return d.meta }
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}

func (d delegate) NotifyMsg(message []byte) {
	if id, ok := strings.CutPrefix(string(message), goodbyePrefix); ok {
		d.seen.leaves(id)
	}
}

const goodbyePrefix = "left "

func goodbye(id string) []byte { return []byte(goodbyePrefix + id) }

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}
