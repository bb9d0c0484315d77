package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/meshtest"
)

// rounds is how often each kind of fault is tried: FAULTS_ROUNDS times as often
// as in a plain run of the tests.
func rounds(t *testing.T, plain int) int {
	t.Helper()
	text := os.Getenv("FAULTS_ROUNDS")
	if text == "" {
		return plain
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("FAULTS_ROUNDS=%q is not a number above 0", text)
	}
	return plain * n
}

// A victim is a mesh in a bubble, of which nothing is safe.
type victim struct {
	*meshtest.Mesh
	rand    *rand.Rand
	history *history
	hosts   []atomic.Pointer[memnet.Host] // of the servers, by their places
}

// connectors are for clients on the servers' hosts.
func (v *victim) connectors() (list []connector) {
	for i := range v.Servers {
		list = append(list, func(ctx context.Context) (*client.Client, error) {
			return client.Dial(ctx, v.Servers[i].Config().Socket, client.WithDialer(v.hosts[i].Load().DialContext))
		})
	}
	return list
}

// A nemesis does one kind of harm and mends it, again and again until its time
// is over.
type nemesis func(*victim)

// torment lets clients work on a mesh while a nemesis is at it, then checks that
// nothing that was acknowledged is lost and that all they saw can be explained.
func torment(t *testing.T, servers int, seed uint64, hurt nemesis) {
	t.Helper()
	var w *workload
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t)
		m.StartServers(servers)
		v := &victim{Mesh: m, rand: rand.New(rand.NewPCG(seed, 0)), hosts: make([]atomic.Pointer[memnet.Host], servers)}
		for i, s := range m.Servers {
			v.hosts[i].Store(s.Host)
		}
		w = startWorkload("key", v.connectors(), 2, 100*time.Millisecond, seed)
		v.history = &w.history
		for range 6 {
			time.Sleep(v.upTo(2 * time.Second))
			hurt(v)
		}
		m.Net.Heal()
		before, _, _ := w.history.counts()
		m.WaitFor("writes to go on", func() bool {
			now, _, _ := w.history.counts()
			return now >= before+20
		})
		w.end()
		w.readAll(t, v.connectors())
	})
	judge(t, &w.history)
}

func (v *victim) upTo(d time.Duration) time.Duration { return time.Duration(v.rand.Int64N(int64(d))) }

// suffer keeps a fault up for a while: at times shorter than an election, at
// times longer than a call.
func (v *victim) suffer(what string, args ...any) {
	v.history.note(fmt.Sprintf(what, args...))
	time.Sleep(200*time.Millisecond + v.upTo(5*time.Second))
}

func (v *victim) anyServer() (int, *meshtest.Server) {
	i := v.rand.IntN(len(v.Servers))
	return i, v.Servers[i]
}

// leader is the server that leads, or any when none does at the moment.
func (v *victim) leader() (int, *meshtest.Server) {
	for i, s := range v.Servers {
		if s.Running() && s.Leads() {
			return i, s
		}
	}
	return v.anyServer()
}

func (v *victim) heal() {
	v.Net.Heal()
	v.history.note("healed")
}

func (v *victim) others(not *meshtest.Server) (hosts []*memnet.Host) {
	for _, s := range v.Servers {
		if s != not {
			hosts = append(hosts, s.Host)
		}
	}
	return hosts
}

func (v *victim) restart(i int) {
	s := v.Servers[i]
	s.Restart()
	v.hosts[i].Store(s.Host)
	v.history.note(s.Name + " is back")
}

func isolateLeader(v *victim) {
	_, s := v.leader()
	v.Net.Isolate(s.Host)
	v.suffer("%s, which leads, is cut off", s.Name)
	v.heal()
}

// muteLeader: the leader hears the others and they do not hear it.
func muteLeader(v *victim) {
	_, s := v.leader()
	v.Net.PartitionOneWay([]*memnet.Host{s.Host}, v.others(s))
	v.suffer("%s, which leads, is not heard", s.Name)
	v.heal()
}

// deafenLeader: the others hear the leader and it does not hear them.
func deafenLeader(v *victim) {
	_, s := v.leader()
	v.Net.PartitionOneWay(v.others(s), []*memnet.Host{s.Host})
	v.suffer("%s, which leads, hears nobody", s.Name)
	v.heal()
}

// cutSome cuts ways between servers at random, each in one direction.
func cutSome(v *victim) {
	what := "cut:"
	for _, from := range v.Servers {
		for _, to := range v.Servers {
			if from != to && v.rand.IntN(3) == 0 {
				v.Net.PartitionOneWay([]*memnet.Host{from.Host}, []*memnet.Host{to.Host})
				what += " " + from.Name + "->" + to.Name
			}
		}
	}
	v.suffer("%s", what)
	v.heal()
}

// slowDown makes ways between servers long.
func slowDown(v *victim) {
	set := func(limit time.Duration) {
		for i, a := range v.Servers {
			for _, b := range v.Servers[:i] {
				v.Net.SetLatency(a.Host, b.Host, v.upTo(limit))
			}
		}
	}
	set(400 * time.Millisecond)
	v.suffer("slow ways")
	set(time.Millisecond)
	v.history.note("quick ways")
}

func crashLeader(v *victim) {
	i, s := v.leader()
	s.Crash()
	v.suffer("%s, which leads, has crashed", s.Name)
	v.restart(i)
}

// crashAll ends all servers at the same moment, the work of the clients too.
func crashAll(v *victim) {
	for _, s := range v.Servers {
		s.Crash()
	}
	v.suffer("all have crashed")
	for i := range v.Servers {
		v.restart(i)
	}
}

// powerCut is a crash that others do not hear of: connections to it stay.
func powerCut(v *victim) {
	i, s := v.leader()
	v.Net.Isolate(s.Host)
	s.Crash()
	v.suffer("%s, which leads, has no power", s.Name)
	v.Net.Heal()
	v.restart(i)
}

func rollingRestart(v *victim) {
	for i, s := range v.Servers {
		v.history.note(s.Name + " is stopped")
		s.Stop()
		time.Sleep(v.upTo(time.Second))
		v.restart(i)
		<-s.Ready()
	}
}

func handOver(v *victim) {
	_, s := v.leader()
	v.history.note(s.Name + " hands over")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// It may refuse: what counts is what the clients see.
	_, _ = s.Admin().TransferLeadership(ctx, &apiv1.TransferLeadershipRequest{})
}

// everything does one thing after the other, and some at the same time.
func everything(v *victim) {
	all := []nemesis{isolateLeader, muteLeader, deafenLeader, cutSome, crashLeader, powerCut, handOver}
	if v.rand.IntN(2) == 0 {
		_, s := v.anyServer()
		v.Net.PartitionOneWay([]*memnet.Host{s.Host}, v.others(s))
		v.history.note(s.Name + " is not heard")
	}
	all[v.rand.IntN(len(all))](v)
}

// Reads that only ask for what a server has must be found out: otherwise the
// verdicts are worth nothing.
func TestStaleReadsAreCaught(t *testing.T) {
	h := &history{}
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t)
		m.StartServers(3)
		cutOff, other := m.Leader(), m.Follower()
		write := func(r request) {
			h.call(0, r, func(r request) reply {
				got, err := ask(t.Context(), other.Admin(), r)
				if err != nil {
					t.Error(err)
				}
				return got
			})
		}
		write(request{action: put, key: "key-0", value: 1})
		m.WaitFor("the write to be everywhere", func() bool { return staleRead(t, cutOff).outcome == done })
		m.Net.Isolate(cutOff.Host)
		m.WaitFor("another leader", func() bool {
			return !cutOff.Leads() && m.FindLeader() != nil
		})
		other = m.Leader()
		write(request{action: put, key: "key-0", value: 2})
		h.call(1, request{action: read, key: "key-0"}, func(request) reply { return staleRead(t, cutOff) })
	})
	if got, _ := porcupine.CheckOperationsVerbose(model, h.operations(), patience); got != porcupine.Illegal {
		t.Errorf("a stale read was judged %s", got)
	}
}

func staleRead(t *testing.T, s *meshtest.Server) reply {
	t.Helper()
	got, err := s.Admin().GetResources(t.Context(), &apiv1.GetResourcesRequest{Kind: kind, Name: "key-0", Stale: true})
	if err != nil {
		t.Fatal(err)
	}
	result, err := found(got.Resources)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestLinearizableUnderFaults(t *testing.T) {
	f := func(name string, servers int, hurt nemesis) {
		t.Run(name, func(t *testing.T) {
			for i := range rounds(t, 1) {
				torment(t, servers, uint64(i), hurt)
			}
		})
	}
	f("leader isolated", 3, isolateLeader)
	f("leader not heard", 3, muteLeader)
	f("leader hears nobody", 3, deafenLeader)
	f("ways cut at random", 5, cutSome)
	f("slow ways", 3, slowDown)
	f("leader crashes", 3, crashLeader)
	f("all crash", 3, crashAll)
	f("power cut", 3, powerCut)
	f("rolling restart", 3, rollingRestart)
	f("hand over", 3, handOver)
	f("everything", 5, everything)
}
