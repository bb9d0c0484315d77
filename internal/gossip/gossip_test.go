package gossip

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshd/meshd/internal/memnet"
)

// A pool is some members on one network in memory.
type pool struct {
	t     *testing.T
	net   *memnet.Net
	hosts []*memnet.Host
	all   []*Gossip
}

func newPool(t *testing.T, n int) *pool {
	p := &pool{t: t, net: memnet.New()}
	for i := range n {
		p.add(i, Key{1}, "cluster")
	}
	for _, g := range p.all[1:] {
		if err := g.Join([]string{p.all[0].Address().String()}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *pool) add(i int, key Key, label string) *Gossip {
	p.t.Helper()
	ip := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
	h := p.net.Host(fmt.Sprintf("h%d", i), ip)
	g, err := Start(p.t.Context(), Config{
		Name:      fmt.Sprintf("s%d", i),
		Bind:      ":7301",
		Advertise: netip.AddrPortFrom(ip, 0),
		Keys:      []Key{key},
		Label:     label,
		Tags:      Tags{Name: fmt.Sprintf("vm%d", i), Address: ip.String() + ":7300", Version: "1"},
		Network:   h,
		Logger:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.hosts, p.all = append(p.hosts, h), append(p.all, g)
	return g
}

func (p *pool) stop() {
	for _, g := range p.all {
		if err := g.Stop(); err != nil {
			p.t.Error(err)
		}
	}
	<-time.After(10 * time.Second) // memberlist does not wait for its last probes
}

// want waits until member i sees these states, by id.
func (p *pool) want(i int, want map[string]State) {
	p.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		got := map[string]State{}
		for _, m := range p.all[i].Members() {
			got[m.ID] = m.State
		}
		diff := cmp.Diff(want, got)
		if diff == "" {
			return
		}
		select {
		case <-p.all[i].Changes():
		case <-time.After(time.Until(deadline)):
			p.t.Fatalf("member %d sees (-want +got):\n%s", i, diff)
		}
	}
}

func TestPoolSeesDeathAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 3)
		defer p.stop()
		all := map[string]State{"s0": Alive, "s1": Alive, "s2": Alive}
		for i := range p.all {
			p.want(i, all)
		}
		if got, want := p.all[0].Members()[2].Tags, (Tags{"vm2", "10.0.0.3:7300", "1"}); got != want {
			t.Errorf("tags of s2 are %v, want %v", got, want)
		}

		cut := time.Now()
		p.net.Isolate(p.hosts[2])
		p.want(0, map[string]State{"s0": Alive, "s1": Alive, "s2": Dead})
		if d := time.Since(cut); d > 5*time.Second {
			t.Errorf("it took %v to see a dead member", d)
		}
		p.net.Heal(p.hosts...)
		for i := range p.all {
			if err := p.all[i].Join([]string{p.all[(i+1)%3].Address().String()}); err != nil {
				t.Fatal(err)
			}
			p.want(i, all)
		}
	})
}

func TestLeaveIsSeenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 3)
		defer p.stop()
		for i := range p.all {
			p.want(i, map[string]State{"s0": Alive, "s1": Alive, "s2": Alive})
		}
		left := time.Now()
		if err := p.all[1].Leave(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		p.want(0, map[string]State{"s0": Alive, "s1": Left, "s2": Alive})
		if d := time.Since(left); d > time.Second {
			t.Errorf("it took %v to see that a member left", d)
		}
	})
}

func TestStrangersStayOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 1)
		defer p.stop()
		for what, g := range map[string]*Gossip{
			"another key":   p.add(1, Key{2}, "cluster"),
			"another label": p.add(2, Key{1}, "other"),
		} {
			if err := g.Join([]string{p.all[0].Address().String()}); err == nil {
				t.Errorf("a member with %s could join", what)
			}
		}
		p.want(0, map[string]State{"s0": Alive})
	})
}

func TestRefusesWhatCannotWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := memnet.New().Host("h", netip.MustParseAddr("10.0.0.1"))
		f := func(c Config) {
			t.Helper()
			c.Network, c.Bind, c.Logger = host, ":7301", slog.New(slog.NewTextHandler(io.Discard, nil))
			if g, err := Start(t.Context(), c); err == nil {
				g.Stop()
				t.Errorf("started with %+v", c)
			}
		}
		f(Config{Name: "s", Advertise: netip.MustParseAddrPort("0.0.0.0:7301")})
		f(Config{Name: "s", Advertise: netip.MustParseAddrPort("10.0.0.1:0"), Tags: Tags{Name: string(make([]byte, 600))}})
	})
}
