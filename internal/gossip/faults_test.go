package gossip

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/meshd/meshd/internal/memnet"
)

// The halves of a partition find each other again however long it lasted:
// memberlist alone forgets the dead after half a minute.
func TestPoolHealsAfterLongPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 5)
		defer p.stop()
		all := map[string]State{"s0": Alive, "s1": Alive, "s2": Alive, "s3": Alive, "s4": Alive}
		for i := range p.all {
			p.want(i, all) // who was never met cannot be missed
		}
		p.net.Partition(p.hosts[:2], p.hosts[2:])
		<-time.After(10 * time.Minute)
		p.want(0, map[string]State{"s0": Alive, "s1": Alive, "s2": Dead, "s3": Dead, "s4": Dead})
		p.want(4, map[string]State{"s0": Dead, "s1": Dead, "s2": Alive, "s3": Alive, "s4": Alive})
		p.net.Heal()
		for i := range p.all {
			p.want(i, all)
		}
	})
}

func TestCrashIsSeenInSeconds(t *testing.T) {
	f := func(servers int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			p := newPool(t, servers)
			defer p.stop()
			time.Sleep(7 * time.Second)
			last := servers - 1
			p.net.Isolate(p.hosts[last]) // the power is off: nobody gets a reset
			p.net.Crash(p.hosts[last])
			start := time.Now()
			for i := range last {
				for p.state(i, last) != Dead {
					<-p.all[i].Changes()
				}
				// Who probes whom next is chance: 2 to 5 s, most often 3.
				if took := time.Since(start); took > 6*time.Second {
					t.Errorf("of %d servers, number %d saw it after %v", servers, i, took)
				}
			}
		})
	}
	for range 10 {
		f(3)
		f(5)
	}
}

// state is how member i sees member j.
func (p *pool) state(i, j int) State {
	for _, m := range p.all[i].Members() {
		if m.ID == p.all[j].rejoin.self {
			return m.State
		}
	}
	return ""
}

// A member that is asked all the time must not read what memberlist writes; the
// race detector is the judge. Tags of a new life replace those of the old one.
func TestRestartWithOtherTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 3)
		defer p.stop()
		var asking sync.WaitGroup
		stop := make(chan struct{})
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					p.all[0].Members()
				}
			}
		})
		for _, version := range []string{"2", "3", "4"} {
			p.restart(2, version)
			for p.all[0].Members()[2].Tags.Version != version {
				<-p.all[0].Changes()
			}
		}
		close(stop)
		asking.Wait()
	})
}

func (p *pool) restart(i int, version string) {
	p.t.Helper()
	old := p.all[i]
	if err := old.Stop(); err != nil {
		p.t.Fatal(err)
	}
	g, err := Start(p.t.Context(), Config{
		Name: old.rejoin.self, Bind: ":7301", Advertise: old.Address(), Keys: []Key{{1}}, Label: "cluster",
		Tags: Tags{Version: version}, Network: p.hosts[i], Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.all[i] = g
	if err := g.Join([]string{p.all[0].Address().String()}); err != nil {
		p.t.Fatal(err)
	}
}

// Whoever is alone keeps calling those whom it was to join, for instance when
// all servers start at once.
func TestJoinGoesOnTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pool{t: t, net: memnet.New()}
		defer p.stop()
		p.add(0, Key{1}, "cluster")
		if err := p.all[0].Join([]string{"10.0.0.2:7301"}); err == nil {
			t.Error("joined nobody")
		}
		time.Sleep(time.Minute)
		p.add(1, Key{1}, "cluster")
		p.want(0, map[string]State{"s0": Alive, "s1": Alive})
	})
}

func TestJoinTakesAddressesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 1)
		defer p.stop()
		for _, a := range []string{"", "10.0.0.2", "vm1:7301", "x/10.0.0.2:7301"} {
			if err := p.all[0].Join([]string{a}); err == nil || !strings.Contains(err.Error(), "no IP address") {
				t.Errorf("%q: %v", a, err)
			}
		}
	})
}

// Strangers can take all places for streams for a while, not hold them, and a
// stream that goes on and on is cut.
func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 2)
		defer p.stop()
		var silent []net.Conn
		for range 2 * maxInbound {
			c, err := p.hosts[1].DialContext(t.Context(), "tcp", p.all[0].Address().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			silent = append(silent, c)
		}
		synctest.Wait()
		if n := len(p.all[0].transport.open.slots); n > maxInbound {
			t.Errorf("%d streams at once", n)
		}
		if err := p.all[1].Join([]string{p.all[0].Address().String()}); err == nil {
			t.Error("one more stream was served")
		}
		time.Sleep(time.Minute)
		for _, c := range silent {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("a silent stream lives")
			}
		}
		if err := p.all[1].Join([]string{p.all[0].Address().String()}); err != nil {
			t.Errorf("after the flood: %v", err)
		}
	})
}

func TestStreamEndsAtItsLimit(t *testing.T) {
	here, there := net.Pipe()
	all := newStreams()
	s := all.add(here, func() {})
	go there.Write(make([]byte, 2*maxStream))
	if n, err := io.Copy(io.Discard, s); n != maxStream || !errors.Is(err, errTooLong) {
		t.Errorf("read %d, %v", n, err)
	}
	all.close()
	if _, err := there.Read(make([]byte, 1)); err == nil {
		t.Error("close left a stream open")
	}
	late, _ := net.Pipe()
	if _, err := all.add(late, func() {}).Read(make([]byte, 1)); err == nil {
		t.Error("a stream was added after close")
	}
}

// Stop does not wait for somebody who never answers.
func TestStopDuringJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 1)
		joined := make(chan error, 1)
		go func() { joined <- p.all[0].Join([]string{"10.9.9.9:7301"}) }()
		synctest.Wait()
		start := time.Now()
		p.stop()
		if err := <-joined; err == nil {
			t.Error("joined nobody")
		}
		if took := time.Since(start); took != 10*time.Second { // of stop itself
			t.Errorf("it took %v", took)
		}
	})
}

func TestStrangersDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 2)
		defer p.stop()
		var out bytes.Buffer
		l := quietly(slog.New(slog.NewTextHandler(&out, nil))).logger()
		for range 1000 {
			l.Printf("[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=10.0.0.9:53")
			l.Printf("[DEBUG] memberlist: Stream connection from=10.0.0.9:53")
		}
		if n := strings.Count(out.String(), "\n"); n != 20 {
			t.Errorf("%d lines", n)
		}
		if want := `level=WARN msg="gossip: Decrypt packet failed`; !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	})
}

func TestRosterIsBounded(t *testing.T) {
	r := newRoster()
	for i := range 3 * maxGone {
		r.NotifyLeave(&memberlist.Node{Name: string(rune('a'+i%26)) + string(rune('0'+i)), Addr: net.IPv4(10, 0, 0, 1)})
	}
	if n := len(r.members()); n != maxGone {
		t.Errorf("%d dead members", n)
	}
}

func FuzzTags(f *testing.F) {
	f.Add([]byte(`{"n":"vm1","a":"10.0.0.1:7300","v":"1"}`), []byte{10, 0, 0, 1})
	f.Add([]byte(`{"n":1}`), []byte(nil))
	f.Fuzz(func(t *testing.T, meta, ip []byte) {
		m := member(&memberlist.Node{Name: "s", Addr: ip, Port: 1, Meta: meta}, Alive)
		if m.ID != "s" || m.State != Alive {
			t.Errorf("%+v", m)
		}
		if a := m.Address; a.IsValid() {
			if again, err := netip.ParseAddrPort(a.String()); err != nil || again != a {
				t.Errorf("%v was read as %v, %v", a, again, err)
			}
		}
	})
}
