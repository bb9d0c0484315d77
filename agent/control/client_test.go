package control

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/meshd/meshd/agent/slice"
	apiv1 "github.com/meshd/meshd/api/v1"
)

func instance(id string) *apiv1.Instance { return &apiv1.Instance{Id: id, Service: id, Port: 80} }

func TestHelloAndHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		f := &fakeServer{name: "s1"}
		w.start("s1:7300", f)
		held, err := slice.Empty().Merge(&apiv1.SliceUpdate{Version: 42, Snapshot: true})
		if err != nil {
			t.Fatal(err)
		}
		c := w.connect(Config{Servers: []string{"s1:7300"}, Slice: held})
		synctest.Wait()
		hellos := messages(f, (*apiv1.AgentMessage).GetHello)
		want := []*apiv1.Hello{{ClusterId: "c1", Address: "10.0.0.1", SliceVersion: 42, PartialSlices: true}}
		if diff := cmp.Diff(want, hellos, protocmp.Transform()); diff != "" {
			t.Errorf("hello (-want +got)\n%s", diff)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		if n := len(messages(f, (*apiv1.AgentMessage).GetHeartbeat)); n != 10 {
			t.Errorf("%d heartbeats in 10 s", n)
		}
		if s := c.Status(); s.Server != "s1" || s.Err != nil {
			t.Errorf("status %+v", s)
		}
	})
}

func TestSliceMergedAndAcknowledged(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		f := &fakeServer{name: "s1"}
		w.start("s1:7300", f)
		c := w.connect(Config{Servers: []string{"s1:7300"}})
		synctest.Wait()
		f.push(t, &apiv1.SliceUpdate{Version: 5, Snapshot: true, Services: []*apiv1.ServiceSlice{{Name: "a", Vip: 1}}})
		<-c.Changes()
		f.push(t, &apiv1.SliceUpdate{Version: 6, Services: []*apiv1.ServiceSlice{{Name: "b", Vip: 2}}})
		<-c.Changes()
		if s := c.Slice(); s.Version != 6 || len(s.Services) != 2 {
			t.Errorf("slice %+v", s)
		}
		c.Ack(6, []string{"no room"})
		synctest.Wait()
		want := []*apiv1.Ack{{Version: 6, Problems: []string{"no room"}}}
		if diff := cmp.Diff(want, messages(f, (*apiv1.AgentMessage).GetAck), protocmp.Transform()); diff != "" {
			t.Errorf("acks (-want +got)\n%s", diff)
		}
	})
}

// A delta that does not fit makes the agent ask for all of its slice again.
func TestSliceResync(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		f := &fakeServer{name: "s1"}
		w.start("s1:7300", f)
		c := w.connect(Config{Servers: []string{"s1:7300"}})
		synctest.Wait()
		f.push(t, &apiv1.SliceUpdate{Version: 5, Snapshot: true})
		synctest.Wait()
		f.push(t, &apiv1.SliceUpdate{Version: 4})
		time.Sleep(time.Second)
		hellos := messages(f, (*apiv1.AgentMessage).GetHello)
		if len(hellos) != 2 || hellos[1].SliceVersion != 0 {
			t.Fatalf("hellos %v", hellos)
		}
		if c.Slice().Version != 5 {
			t.Errorf("slice version %d while the new one is on its way", c.Slice().Version)
		}
		f.push(t, &apiv1.SliceUpdate{Version: 6, Snapshot: true})
		synctest.Wait()
		if c.Slice().Version != 6 {
			t.Errorf("slice version %d", c.Slice().Version)
		}
	})
}

// A server that was just started may know less than the host. What the host
// knows stays in force until the server has caught up.
func TestServerBehind(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		f := &fakeServer{name: "s1"}
		w.start("s1:7300", f)
		c := w.connect(Config{Servers: []string{"s1:7300"}})
		synctest.Wait()
		a, b, b2 := &apiv1.ServiceSlice{Name: "a"}, &apiv1.ServiceSlice{Name: "b"}, &apiv1.ServiceSlice{Name: "b", Vip: 2}
		push := func(u *apiv1.SliceUpdate, version uint64, services int) {
			t.Helper()
			f.push(t, u)
			synctest.Wait()
			if s := c.Slice(); s.Version != version || len(s.Services) != services {
				t.Errorf("slice %d with %d services, want %d with %d", s.Version, len(s.Services), version, services)
			}
		}
		push(&apiv1.SliceUpdate{Version: 10, Snapshot: true, Services: []*apiv1.ServiceSlice{a, b}}, 10, 2)
		c.Ack(10, []string{"p"})
		push(&apiv1.SliceUpdate{Version: 4, Snapshot: true, Services: []*apiv1.ServiceSlice{a}}, 10, 2)
		push(&apiv1.SliceUpdate{Version: 7, Services: []*apiv1.ServiceSlice{b}}, 10, 2)
		want := []*apiv1.Ack{{Version: 10, Problems: []string{"p"}}, {Version: 4, Problems: []string{"p"}}, {Version: 7, Problems: []string{"p"}}}
		if diff := cmp.Diff(want, messages(f, (*apiv1.AgentMessage).GetAck), protocmp.Transform()); diff != "" {
			t.Errorf("acks (-want +got)\n%s", diff)
		}
		push(&apiv1.SliceUpdate{Version: 11, Services: []*apiv1.ServiceSlice{b2}}, 11, 2)
		if c.Slice().Services["b"].Vip != 2 {
			t.Error("what the server caught up with is not in force")
		}
		time.Sleep(time.Minute)
		if c.Slice().Version != 11 {
			t.Errorf("slice version %d a minute later", c.Slice().Version)
		}
	})
}

// A mesh that was restored from a backup is older for good.
func TestServerStaysBehind(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		f := &fakeServer{name: "s1"}
		w.start("s1:7300", f)
		held, err := slice.Empty().Merge(&apiv1.SliceUpdate{Version: 10, Snapshot: true})
		if err != nil {
			t.Fatal(err)
		}
		c := w.connect(Config{Servers: []string{"s1:7300"}, Slice: held})
		synctest.Wait()
		old := &apiv1.SliceUpdate{Version: 4, Snapshot: true}
		f.push(t, old)
		time.Sleep(patience / 2)
		w.kill("s1:7300")
		w.start("s1:7300", f)
		time.Sleep(patience / 4)
		f.push(t, old)
		synctest.Wait()
		if c.Slice().Version != 10 {
			t.Errorf("slice version %d before it is time", c.Slice().Version)
		}
		time.Sleep(patience / 4)
		synctest.Wait()
		if c.Slice().Version != 4 {
			t.Errorf("slice version %d when it is time", c.Slice().Version)
		}
	})
}

func TestRegister(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		f := &fakeServer{name: "s1"}
		w.start("s1:7300", f)
		c := w.connect(Config{Servers: []string{"s1:7300"}})
		if err := c.Registered(); err == nil {
			t.Error("registered before anything was said")
		}
		seq := c.Register([]*apiv1.Instance{instance("a")})
		if err := c.WaitRegistered(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
		if again := c.Register([]*apiv1.Instance{instance("a")}); again != seq {
			t.Errorf("the same set got sequence %d after %d", again, seq)
		}
		seq = c.Register(nil)
		if err := c.WaitRegistered(t.Context(), seq); err != nil || c.Registered() != nil {
			t.Fatal(err, c.Registered())
		}
		want := []*apiv1.Registrations{{Sequence: 1, Instances: []*apiv1.Instance{instance("a")}}, {Sequence: 2}}
		if diff := cmp.Diff(want, messages(f, (*apiv1.AgentMessage).GetRegistrations), protocmp.Transform()); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		w.kill("s1:7300")
		g := &fakeServer{name: "s1"}
		w.start("s1:7300", g)
		time.Sleep(maxDelay)
		if got := messages(g, (*apiv1.AgentMessage).GetRegistrations); len(got) != 1 || got[0].Sequence != 2 {
			t.Errorf("after the reconnect: %v", got)
		}
	})
}

func TestRegisterRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		f := &fakeServer{name: "s1", refusal: "no leader"}
		w.start("s1:7300", f)
		c := w.connect(Config{Servers: []string{"s1:7300"}})
		seq := c.Register([]*apiv1.Instance{instance("a")})
		err := c.WaitRegistered(t.Context(), seq)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Reason != "no leader" {
			t.Fatalf("got %v", err)
		}
		time.Sleep(repeatMin + time.Millisecond)
		f.set(func() { f.refusal = "" })
		if err := c.WaitAccepted(t.Context(), seq); err != nil {
			t.Error(err)
		}
		if err := c.Registered(); err != nil {
			t.Errorf("after the repetition: %v", err)
		}
		time.Sleep(time.Minute)
		if n := len(messages(f, (*apiv1.AgentMessage).GetRegistrations)); n != 3 {
			t.Errorf("sent %d times", n)
		}
	})
}

func TestWaitRegisteredGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.connect(Config{Servers: []string{"s1:7300"}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.WaitRegistered(ctx, c.Register(nil)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if s := c.Status(); s.Server != "" || s.Err == nil {
			t.Errorf("status %+v", s)
		}
	})
}

func TestFailover(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		fakes := map[string]*fakeServer{}
		for _, name := range []string{"s1", "s2", "s3"} {
			fakes[name] = &fakeServer{name: name, servers: []string{"s1", "s2", "s3"}}
			w.start(name, fakes[name])
		}
		var saved []string
		c := w.connect(Config{Servers: []string{"s1"}, SaveServers: func(s []string) { saved = s }})
		synctest.Wait()
		if diff := cmp.Diff([]string{"s1", "s2", "s3"}, saved); diff != "" {
			t.Errorf("servers (-want +got)\n%s", diff)
		}
		for range 10 {
			holder := c.Status().Server
			w.kill(holder)
			time.Sleep(time.Second)
			if now := c.Status().Server; now == "" || now == holder {
				t.Fatalf("after %s was killed: %q", holder, now)
			}
			w.start(holder, fakes[holder])
		}
	})
}

// A server that hangs is given up after three seconds, whether it never
// answered or stopped to.
func TestSilentServer(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		f := &fakeServer{name: "s1", silent: true}
		w.start("s1", f)
		c := w.connect(Config{Servers: []string{"s1"}})
		time.Sleep(silence + time.Millisecond)
		if err := c.Status().Err; !errors.Is(err, errSilent) {
			t.Errorf("never answered: %v", err)
		}
		f.set(func() { f.silent = false })
		time.Sleep(time.Second)
		if c.Status().Server != "s1" {
			t.Fatalf("status %+v", c.Status())
		}
		f.set(func() { f.silent = true })
		time.Sleep(silence)
		synctest.Wait()
		if err := c.Status().Err; !errors.Is(err, errSilent) {
			t.Errorf("stopped to answer: %v", err)
		}
	})
}

func TestSign(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.connect(Config{Servers: []string{"s1"}})
		if c.Conn() != nil {
			t.Error("a connection to nobody")
		}
		time.AfterFunc(20*time.Second, func() { w.start("s1", &fakeServer{name: "s1"}) })
		reply, err := c.Sign(t.Context(), &apiv1.SignRequest{})
		if err != nil || reply.GetCertificates()[0].GetError() != "by s1" {
			t.Errorf("%v, %v", reply, err)
		}
		if c.Conn() == nil {
			t.Error("no connection")
		}
	})
}

func TestLeave(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		f := &fakeServer{name: "s1"}
		w.start("s1", f)
		c := w.connect(Config{Servers: []string{"s1"}})
		if err := c.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(messages(f, (*apiv1.AgentMessage).GetGoodbye)) != 1 || connections(f) != 0 {
			t.Error("no goodbye, or still connected")
		}
		time.Sleep(time.Minute)
		if connections(f) != 0 {
			t.Error("it came back")
		}
	})
}

func TestStopSaysNoGoodbye(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		f := &fakeServer{name: "s1"}
		w.start("s1", f)
		c := w.connect(Config{Servers: []string{"s1"}})
		synctest.Wait()
		c.cancel()
		<-c.done
		synctest.Wait()
		if len(messages(f, (*apiv1.AgentMessage).GetGoodbye)) != 0 || connections(f) != 0 {
			t.Error("a goodbye, or still connected")
		}
	})
}

func TestDelay(t *testing.T) {
	f := func(failures int, most time.Duration) {
		t.Helper()
		for range 100 {
			if d := delay(failures); d < most/2 || d > most {
				t.Errorf("after %d failures: %v, want %v to %v", failures, d, most/2, most)
			}
		}
	}
	f(1, 100*time.Millisecond)
	f(2, 200*time.Millisecond)
	f(6, 3200*time.Millisecond)
	f(7, 5*time.Second)
	f(1000, 5*time.Second)
}

func TestARefusalNamesInstances(t *testing.T) {
	f := func(r *apiv1.RegistrationsResult, id string, want bool) {
		t.Helper()
		if got := refusalOf(r).Of(id) != nil; got != want {
			t.Errorf("%v refuses %s: %v, want %v", r, id, got, want)
		}
	}
	f(&apiv1.RegistrationsResult{Error: "no leader"}, "a", true)
	some := &apiv1.RegistrationsResult{Error: "b: not allowed", Refused: []*apiv1.RefusedInstance{{Id: "b", Reason: "not allowed"}}}
	f(some, "a", false)
	f(some, "b", true)
}
