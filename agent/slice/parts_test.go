package slice

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func endpoints(keys ...string) (list []*apiv1.Endpoint) {
	for _, key := range keys {
		nodeID, id, _ := strings.Cut(key, "/")
		id, address, _ := strings.Cut(id, "@")
		list = append(list, &apiv1.Endpoint{NodeId: nodeID, Id: id, Address: address})
	}
	return list
}

func describe(s *Slice) (words []string) {
	for _, name := range []string{"a", "b"} {
		if service := s.Services[name]; service != nil {
			words = append(words, name)
			for _, e := range service.Endpoints {
				words = append(words, fmt.Sprintf("%s/%s@%s", e.NodeId, e.Id, e.Address))
			}
		}
		if vip := s.Index[name]; vip != 0 {
			words = append(words, fmt.Sprint(name, " at ", vip))
		}
	}
	return words
}

func TestServicesInParts(t *testing.T) {
	s := Empty()
	f := func(u *apiv1.SliceUpdate, want ...string) {
		t.Helper()
		next, err := s.Merge(u)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, describe(next)); diff != "" {
			t.Errorf("version %d (-want +got):\n%s", u.Version, diff)
		}
		s = next
	}
	a := func(partial bool, endpoints ...*apiv1.Endpoint) []*apiv1.ServiceSlice {
		return []*apiv1.ServiceSlice{{Name: "a", Vip: 1, Partial: partial, Endpoints: endpoints}}
	}
	name := []*apiv1.ServiceName{{Name: "a", Vip: 1}, {Name: "b", Vip: 2}}
	f(&apiv1.SliceUpdate{Version: 1, Snapshot: true, Index: name}, "a at 1", "b at 2")
	f(&apiv1.SliceUpdate{Version: 2, Services: a(false, endpoints("h1/x@1", "h2/x@1")...)}, "a", "h1/x@1", "h2/x@1", "b at 2")
	f(&apiv1.SliceUpdate{Version: 3, Services: a(true, endpoints("h1/y@1", "h2/x@2")...)}, "a", "h1/x@1", "h1/y@1", "h2/x@2", "b at 2")
	gone := a(true)
	gone[0].RemovedEndpoints = []*apiv1.EndpointKey{{NodeId: "h1", Id: "x"}, {NodeId: "h9", Id: "never"}}
	f(&apiv1.SliceUpdate{Version: 4, Services: gone}, "a", "h1/y@1", "h2/x@2", "b at 2")
	// A long service is several of the same update.
	f(&apiv1.SliceUpdate{Version: 5, Services: append(a(false, endpoints("h1/z@1")...), a(true, endpoints("h2/z@1")...)...)}, "a", "h1/z@1", "h2/z@1", "b at 2")
	f(&apiv1.SliceUpdate{Version: 6, Index: name[:1]}, "a at 1", "b at 2")
	if _, err := s.Merge(&apiv1.SliceUpdate{Version: 7, Services: a(true)}); err == nil {
		t.Error("a change of what is not there was taken")
	}
	again, err := Empty().Merge(s.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(describe(s), describe(again)); diff != "" {
		t.Errorf("read from disk (-before +after):\n%s", diff)
	}
	if s.Address("a") != 1 || s.Address("c") != 0 {
		t.Errorf("a is at %d, c at %d", s.Address("a"), s.Address("c"))
	}
}
