package rpc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

func aService(name string, subsets ...string) *apiv1.Resource {
	s := &apiv1.Service{Subsets: map[string]*apiv1.Subset{}}
	for _, subset := range subsets {
		s.Subsets[subset] = &apiv1.Subset{Match: map[string]string{"tag": subset}}
	}
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Service{Service: s}}
}

func aRoute(name, service string, to ...string) *apiv1.Resource {
	rule := &apiv1.RouteRule{}
	for _, t := range to {
		rule.Split = append(rule.Split, &apiv1.Split{To: t, Weight: new(uint32(1))})
	}
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Route{Route: &apiv1.Route{Service: service, Rules: []*apiv1.RouteRule{rule}}}}
}

func aPolicy(name, service string) *apiv1.Resource {
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Policy{Policy: &apiv1.Policy{Service: service,
		Rules: []*apiv1.PolicyRule{{Name: "r", From: []string{"web"}, Methods: []string{"GET"}}}}}}
}

func put(r ...*apiv1.Resource) *command.SetResources { return &command.SetResources{Put: r} }

func remove(kind, name string) *command.SetResources {
	return &command.SetResources{Remove: []*command.ResourceKey{{Kind: kind, Name: name}}}
}

// stateWith holds some resources.
func stateWith(t *testing.T, resources ...*apiv1.Resource) *state.Txn {
	t.Helper()
	db := state.New()
	init := &command.InitCluster{
		Cluster: &apiv1.Cluster{Id: "c", Name: "test", TrustDomain: "test.mesh"},
		Authority: &apiv1.Authority{
			TrustDomain: "test.mesh", RootCertificate: []byte("root"), IssuingCertificate: []byte("issuing"),
			SealedRootKey: []byte("root key"), SealedIssuingKey: []byte("issuing key"),
		},
		Server: &apiv1.Server{Id: "s", Name: "s", Address: "10.0.0.1:7300", GossipAddress: "10.0.0.1:7301", KeyHash: make([]byte, 32)},
	}
	if result := db.Apply(1, init); result.Refusal != 0 {
		t.Fatal(result)
	}
	if result := db.Apply(2, put(resources...)); result.Refusal != 0 {
		t.Fatal(result)
	}
	return db.Read()
}

// Sets that have a service in common wait for each other, in their order.
func TestResourceLocks(t *testing.T) {
	txn := stateWith(t, aService("a"), aRoute("r", "a", "b@v2"), aService("b", "v2"))
	f := func(want string, sets ...*command.SetResources) {
		t.Helper()
		l := &nameLocks{locked: map[string]bool{}}
		var requests []*lockRequest
		for _, set := range sets {
			requests = append(requests, &lockRequest{concerns(txn, set), make(chan struct{})})
			l.waiting = append(l.waiting, requests[len(requests)-1])
		}
		l.grant()
		var got []string
		for done := 0; done < len(requests); {
			var granted []string
			for i, r := range requests {
				select {
				case <-r.granted:
					granted = append(granted, fmt.Sprint(i))
					r.granted = nil
				default:
				}
			}
			if len(granted) == 0 {
				t.Fatalf("after %q nobody gets on", got)
			}
			done += len(granted)
			got = append(got, strings.Join(granted, " "))
			for _, i := range granted {
				n, _ := strconv.Atoi(i)
				l.release(requests[n])
			}
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("got %s, want %s", s, want)
		}
		if len(l.locked)+len(l.waiting) > 0 {
			t.Errorf("left: %v", l)
		}
	}
	f("0 1 2", put(aService("x")), put(aService("y")), put(aPolicy("p", "z")))
	f("0, 1, 2", put(aService("x")), put(aService("x")), put(aPolicy("p", "x")))
	f("0, 1", put(aPolicy("p", "x")), put(aPolicy("p", "y")))
	// r sends calls to b, and is being moved to c.
	f("0 2, 1", put(aService("b")), put(aRoute("r", "c")), put(aService("d")))
	f("0 1, 2", put(aRoute("new", "x", "y@v1")), remove(mesh.ResourceService, "b"), remove(mesh.ResourceRoute, "r"))
	// What waits is not overtaken by what would have to wait for it.
	f("0, 1, 2", put(aService("x")), put(aService("x"), aService("y")), put(aService("y")))
	wide := &apiv1.Resource{Name: "mesh", Spec: &apiv1.Resource_Mesh{Mesh: &apiv1.Mesh{}}}
	f("0, 1", put(wide), put(wide))
}

func TestLockGivesUp(t *testing.T) {
	l := &nameLocks{locked: map[string]bool{}}
	unlock, err := l.lock(t.Context(), []string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.lock(ctx, []string{"b", "c"}); err == nil {
		t.Error("a lock was granted twice")
	}
	if _, err := l.lock(t.Context(), []string{"c"}); err != nil {
		t.Error("who gave up holds up others")
	}
	unlock()
	if _, err := l.lock(t.Context(), []string{"a", "b"}); err != nil {
		t.Error(err)
	}
}

// Leaving out what has nothing to do with a set changes no verdict.
func TestValidatingWhatIsRelatedIsEnough(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	name := func() string { return string(rune('a' + random.IntN(5))) }
	subset := func() string { return fmt.Sprint("v", random.IntN(3)) }
	any := func() *apiv1.Resource {
		switch n := name(); random.IntN(4) {
		case 0:
			s := aService(n, subset())
			if random.IntN(3) == 0 {
				s = aService(n)
				s.GetService().Protocol = apiv1.Protocol_PROTOCOL_TCP
			}
			return s
		case 1:
			return aPolicy(n, name())
		default:
			return aRoute(n, name(), name()+"@"+subset(), name())
		}
	}
	problems := 0
	for range 1000 {
		stored := map[mesh.ResourceKey]*apiv1.Resource{}
		for range random.IntN(12) {
			r := any()
			stored[mesh.KeyOf(r)] = r
		}
		var resources []*apiv1.Resource
		for _, r := range stored {
			resources = append(resources, r)
		}
		txn := stateWith(t, resources...)
		set := put(any(), any())
		if random.IntN(3) == 0 && len(resources) > 0 {
			key := mesh.KeyOf(resources[0])
			set = remove(key.Kind, key.Name)
		}
		got, want := validate(txn, set), validateAmongAll(txn, set)
		problems += len(want)
		if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
			t.Fatalf("%v among %v: %s", set, resources, d)
		}
	}
	if problems < 200 {
		t.Errorf("only %d problems were met", problems)
	}
}

func validateAmongAll(txn *state.Txn, set *command.SetResources) (problems []*apiv1.Problem) {
	all := slices.DeleteFunc(txn.Resources(nil, ""), func(r *apiv1.Resource) bool {
		inPut := slices.ContainsFunc(set.Put, func(p *apiv1.Resource) bool { return mesh.KeyOf(p) == mesh.KeyOf(r) })
		return inPut || slices.ContainsFunc(set.Remove, func(k *command.ResourceKey) bool {
			return mesh.KeyOf(r) == mesh.ResourceKey{Kind: k.Kind, Name: k.Name}
		})
	})
	all = append(all, set.Put...)
	problems = mesh.ValidateSet(set.Put, all)
	for _, k := range set.Remove {
		problems = append(problems, mesh.ValidateDelete(mesh.ResourceKey{Kind: k.Kind, Name: k.Name}, all)...)
	}
	return problems
}
