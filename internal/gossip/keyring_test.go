package gossip

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func prints(keys ...Key) (list []string) {
	for _, k := range keys {
		list = append(list, k.Fingerprint())
	}
	return list
}

func TestKeyringBecomesWhatItIsSetTo(t *testing.T) {
	k, err := newKeyring([]Key{{1}})
	if err != nil {
		t.Fatal(err)
	}
	f := func(keys []Key, want ...string) {
		t.Helper()
		if err := k.set(keys); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, k.fingerprints()); diff != "" {
			t.Errorf("%v (-want +got):\n%s", prints(keys...), diff)
		}
	}
	f([]Key{{1}, {2}}, prints(Key{1}, Key{2})...)
	f([]Key{{2}, {1}}, prints(Key{2}, Key{1})...)
	f([]Key{{2}}, prints(Key{2})...)
	f([]Key{{3}, {2}, {4}, {3}}, prints(Key{3}, Key{2}, Key{4})...)
	f([]Key{{5}, {4}}, prints(Key{5}, Key{4})...)
	f([]Key{{6}}, prints(Key{6})...)
	if err := k.set(nil); err == nil {
		t.Error("a keyring without keys was taken")
	}
}

// A rotation goes by steps, and nobody loses sight of anybody: some members are
// always one step ahead of the others.
func TestKeysRotateLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 3)
		defer p.stop()
		all := map[string]State{"s0": Alive, "s1": Alive, "s2": Alive}
		for i := range p.all {
			p.want(i, all)
		}
		for _, step := range [][]Key{{{1}, {2}}, {{2}, {1}}, {{2}}} {
			for _, g := range p.all {
				if err := g.SetKeys(step); err != nil {
					t.Fatal(err)
				}
				for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
					for i := range p.all {
						for j := range p.all {
							if s := p.state(i, j); s != Alive {
								t.Fatalf("with keys %v, member %d sees %d %s", prints(step...), i, j, s)
							}
						}
					}
				}
			}
		}
		if err := p.add(3, Key{1}, "cluster").Join([]string{p.all[0].Address().String()}); err == nil {
			t.Error("a member with the old key could join")
		}
		if err := p.add(4, Key{2}, "cluster").Join([]string{p.all[0].Address().String()}); err != nil {
			t.Error(err)
		}
	})
}

// Whoever left is known to have left, not to have died; when it dies after its
// return, it is dead.
func TestWhoLeftIsNotDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 3)
		defer p.stop()
		for i := range p.all {
			p.want(i, map[string]State{"s0": Alive, "s1": Alive, "s2": Alive})
		}
		if err := p.all[2].Leave(time.Second); err != nil {
			t.Fatal(err)
		}
		p.want(0, map[string]State{"s0": Alive, "s1": Alive, "s2": Left})
		p.want(1, map[string]State{"s0": Alive, "s1": Alive, "s2": Left})
		p.restart(2, "2")
		p.want(0, map[string]State{"s0": Alive, "s1": Alive, "s2": Alive})
		p.net.Isolate(p.hosts[2])
		p.want(0, map[string]State{"s0": Alive, "s1": Alive, "s2": Dead})
	})
}

// The word that a member leaves may be late, early, or about a stranger.
func TestGoodbyes(t *testing.T) {
	f := func(want State, steps ...func(*roster)) {
		t.Helper()
		r := newRoster()
		for _, step := range steps {
			step(r)
		}
		if got := r.all["s"].State; got != want {
			t.Errorf("state %q, want %q", got, want)
		}
	}
	join := func(r *roster) { r.put(Member{ID: "s", State: Alive}) }
	die := func(r *roster) { r.put(Member{ID: "s", State: Dead}) }
	bye := func(r *roster) { delegate{seen: r}.NotifyMsg(goodbye("s")) }
	f(Left, join, bye, die)
	f(Left, join, die, bye)
	f(Dead, join, bye, die, join, die)
	f(Alive, join, bye, die, join)
	f("", bye)
	f(Dead, join, func(r *roster) { delegate{seen: r}.NotifyMsg([]byte("gone s")) }, die)
}
