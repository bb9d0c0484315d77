package control

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// Nothing of an update is put to work before all of it has come, and what has
// come of one that was cut off is forgotten.
func TestAnUpdateInSeveralMessages(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		f := &fakeServer{name: "s1"}
		w.start("s1:7300", f)
		c := w.connect(Config{Servers: []string{"s1:7300"}})
		synctest.Wait()
		part := func(more bool, service string) *apiv1.SliceUpdate {
			return &apiv1.SliceUpdate{Version: 5, Snapshot: true, Scoped: true, More: more, Services: []*apiv1.ServiceSlice{{Name: service, Vip: 1}}}
		}
		f.push(t, part(true, "a"))
		synctest.Wait()
		if c.Slice().Version != 0 {
			t.Error("half an update is in force")
		}
		w.kill("s1:7300")
		time.Sleep(time.Second)
		w.start("s1:7300", f)
		time.Sleep(10 * time.Second)
		f.push(t, part(true, "b"))
		f.push(t, part(false, "c"))
		synctest.Wait()
		if s := c.Slice(); s.Version != 5 || !s.Scoped || len(s.Services) != 2 || s.Services["a"] != nil {
			t.Errorf("slice %+v", s)
		}
		// What the next server is told of it.
		messages(f, (*apiv1.AgentMessage).GetHello)
		w.kill("s1:7300")
		w.start("s1:7300", f)
		time.Sleep(10 * time.Second)
		want := []*apiv1.Hello{{ClusterId: "c1", Address: "10.0.0.1", SliceVersion: 5, PartialSlices: true, Scoped: true, Details: []string{"b", "c"}}}
		if diff := cmp.Diff(want, messages(f, (*apiv1.AgentMessage).GetHello), protocmp.Transform()); diff != "" {
			t.Errorf("hello (-want +got)\n%s", diff)
		}
	})
}

func TestInterestIsToldWhenItChanges(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		f := &fakeServer{name: "s1"}
		w.start("s1:7300", f)
		c := w.connect(Config{Servers: []string{"s1:7300"}})
		synctest.Wait()
		told := func() (times int) {
			synctest.Wait()
			return len(messages(f, (*apiv1.AgentMessage).GetInterest))
		}
		c.SetInterest([]string{"a"}, false)
		if n := told(); n != 1 {
			t.Errorf("told %d times", n)
		}
		c.SetInterest([]string{"a"}, false)
		if n := told(); n != 0 {
			t.Errorf("the same was told %d times", n)
		}
		c.SetInterest([]string{"a"}, true)
		if n := told(); n != 1 {
			t.Errorf("when asked to, the same was told %d times", n)
		}
		messages(f, (*apiv1.AgentMessage).GetHello)
		w.kill("s1:7300")
		w.start("s1:7300", f)
		time.Sleep(10 * time.Second)
		hellos := messages(f, (*apiv1.AgentMessage).GetHello)
		if len(hellos) != 1 || len(hellos[0].GetInterest().GetServices()) != 1 || told() != 0 {
			t.Errorf("the next server is told %v", hellos)
		}
	})
}

// An agent goes where its server sends it, if it knows the place.
func TestMove(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		one, two := &fakeServer{name: "s1"}, &fakeServer{name: "s2"}
		w.start("s1:7300", one)
		c := w.connect(Config{Servers: []string{"s1:7300", "s2:7300"}})
		time.Sleep(10 * time.Second)
		w.start("s2:7300", two)
		move := func(address string) {
			t.Helper()
			one.mu.Lock()
			defer one.mu.Unlock()
			for _, s := range one.streams {
				if err := s.Send(&apiv1.ServerMessage{Message: &apiv1.ServerMessage_Move{Move: &apiv1.Move{Server: address}}}); err != nil {
					t.Error(err)
				}
			}
		}
		move("elsewhere:7300")
		synctest.Wait()
		if s := c.Status(); s.Server != "s1" {
			t.Errorf("sent to somebody unknown the agent is at %q", s.Server)
		}
		move("s2:7300")
		synctest.Wait()
		if s := c.Status(); s.Server != "s2" {
			t.Errorf("sent to s2 the agent is at %q, %v", s.Server, s.Err)
		}
	})
}
