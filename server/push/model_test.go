package push

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// A reader is an agent as the protocol has it: it takes what it is sent, and
// what it knows must then be what there is.
type reader struct {
	t      *testing.T
	wanted []string
	parts  bool
	nodeID string
	said   uint64
	at     cursor

	services map[string]*apiv1.ServiceSlice
	index    map[string]uint32
	nodes    map[string]bool
	scoped   bool
	partial  int // updates of services that came in part
}

func newReader(t *testing.T, nodeID string, parts bool) *reader {
	r := &reader{t: t, nodeID: nodeID, parts: parts}
	r.forget()
	return r
}

func (r *reader) forget() {
	r.services, r.index, r.nodes = map[string]*apiv1.ServiceSlice{}, map[string]uint32{}, map[string]bool{}
	r.at = cursor{}
}

// resume opens a new stream.
func (r *reader) resume() {
	next := cursor{version: r.at.version}
	if r.scoped {
		next.held, next.limited = scope{}, true
		for name := range r.services {
			next.held[name] = true
		}
	}
	r.at = next
}

func (r *reader) read(e *edition) {
	r.t.Helper()
	u, next := e.update(view{nodeID: r.nodeID, parts: r.parts, wanted: r.wanted, interest: r.said}, r.at)
	if r.at = next; u != nil {
		r.merge(decoded(r.t, u, r.parts))
	}
}

func (r *reader) merge(u *apiv1.SliceUpdate) {
	if u.Snapshot {
		at := r.at
		r.forget()
		r.at = at
	}
	r.scoped = u.Scoped
	for _, s := range u.Index {
		delete(r.services, s.Name)
		r.index[s.Name] = s.Vip
	}
	for _, s := range u.Services {
		delete(r.index, s.Name)
		r.services[s.Name] = r.mergeService(s)
	}
	for _, name := range u.RemovedNodes {
		delete(r.nodes, name)
	}
	for _, n := range u.Nodes {
		r.nodes[n.Name] = true
	}
}

func (r *reader) mergeService(s *apiv1.ServiceSlice) *apiv1.ServiceSlice {
	if !s.Partial {
		return s
	}
	r.partial++
	known := r.services[s.Name]
	if known == nil {
		r.t.Fatalf("service %s is told in part to somebody who does not have it", s.Name)
	}
	endpoints := map[string]*apiv1.Endpoint{}
	for _, e := range known.Endpoints {
		endpoints[e.NodeId+"/"+e.Id] = e
	}
	for _, k := range s.RemovedEndpoints {
		delete(endpoints, k.NodeId+"/"+k.Id)
	}
	for _, e := range s.Endpoints {
		endpoints[e.NodeId+"/"+e.Id] = e
	}
	s = proto.CloneOf(s)
	s.Partial, s.RemovedEndpoints, s.Endpoints = false, nil, slices.SortedFunc(maps.Values(endpoints), func(a, b *apiv1.Endpoint) int {
		return cmp.Or(cmp.Compare(a.NodeId, b.NodeId), cmp.Compare(a.Id, b.Id))
	})
	return s
}

// check compares what is known with what there is.
func (r *reader) check(d *tables, scoped bool) {
	r.t.Helper()
	txn := d.db.Read()
	services, index, nodes := map[string]*apiv1.ServiceSlice{}, map[string]uint32{}, map[string]bool{}
	in := r.uses(d)
	for _, s := range txn.Services(nil) {
		if !scoped || in[s.Name] {
			services[s.Name] = ServiceSlice(txn, s)
		} else {
			index[s.Name] = s.Vip
		}
	}
	for _, n := range txn.Nodes(nil) {
		nodes[n.Name] = true
	}
	if !maps.EqualFunc(services, r.services, func(a, b *apiv1.ServiceSlice) bool { return proto.Equal(a, b) }) {
		r.t.Fatalf("services at %d (-there are +known):\n%s", d.index, gocmp.Diff(services, r.services, protocmp.Transform()))
	}
	if !maps.Equal(index, r.index) || !maps.Equal(nodes, r.nodes) || scoped != r.scoped {
		r.t.Fatalf("at %d there are %v %v, scoped %v; known are %v %v, %v", d.index, index, nodes, scoped, r.index, r.nodes, r.scoped)
	}
}

// uses are the services that the reader is to know all about.
func (r *reader) uses(d *tables) map[string]bool {
	in := map[string]bool{}
	for _, name := range r.wanted {
		in[name] = true
	}
	for _, i := range d.db.Read().NodeInstances(nil, r.nodeID) {
		in[i.Service] = true
	}
	for name := range maps.Clone(in) {
		for _, route := range d.db.Read().Routes(nil, name) {
			in[route.GetRoute().Rules[0].Split[0].To] = true
		}
	}
	return in
}

// A chance changes the tables at random.
type chance struct {
	*rand.Rand
	d     *tables
	epoch uint64
}

func (c *chance) name(kind string, n int) string { return fmt.Sprint(kind, c.IntN(n)) }

func (c *chance) change() {
	switch c.IntN(9) {
	case 0, 1, 2, 3:
		i := web(c.name("i", 4))
		i.Service, i.Port = c.name("svc", 8), uint32(1+c.IntN(5))
		c.d.try(&command.SetInstances{NodeId: c.name("h", 4), Put: []*apiv1.Instance{i}})
	case 4:
		c.d.try(&command.SetInstances{NodeId: c.name("h", 4), Remove: []string{c.name("i", 4)}})
	case 5:
		c.epoch++
		c.d.try(&command.TakeLease{NodeId: c.name("h", 4), ServerId: "s1", Epoch: c.epoch, Version: fmt.Sprint(c.epoch)})
	case 6:
		c.d.try(&command.EndLease{NodeId: c.name("h", 4), Epoch: c.epoch, State: apiv1.NodeState_NODE_STATE_LOST})
	case 7:
		service, to := c.name("svc", 8), c.name("svc", 8)
		c.d.try(&command.SetResources{Put: []*apiv1.Resource{{Name: "to-" + service, Spec: &apiv1.Resource_Route{Route: &apiv1.Route{
			Service: service, Rules: []*apiv1.RouteRule{{Split: []*apiv1.Split{{To: to}}}},
		}}}}})
	case 8:
		name := c.name("h", 4)
		c.d.try(&command.RemoveNode{NodeId: name})
		c.d.try(&command.PutNode{TokenId: "t", TimeUnix: 1, Node: &apiv1.Node{Id: name, Name: name, Address: "10.0.0.2", InboundPort: 7443, KeyHash: hash(name)}})
	}
}

// try applies what may be refused.
func (d *tables) try(msg proto.Message) {
	d.index++
	d.db.Apply(d.index, msg)
}

func (d *tables) limit(services uint32) {
	d.t.Helper()
	d.apply(&command.SetResources{Put: []*apiv1.Resource{{Name: "mesh", Spec: &apiv1.Resource_Mesh{
		Mesh: &apiv1.Mesh{Hosts: &apiv1.MeshHosts{WholeCatalogue: &services}},
	}}}})
}

// Whatever happens, in whatever order agents come and go, read late, change
// their minds or are limited to what they use, each knows what there is.
func TestAgentsKnowWhatThereIs(t *testing.T) {
	parts := 0
	for seed := range uint64(6) {
		d, b := newTables(t), newBuilder()
		c := &chance{rand.New(rand.NewPCG(seed, 1)), d, 0}
		for n := range 4 {
			d.addHost(fmt.Sprint("h", n))
		}
		readers := []*reader{newReader(t, "h0", true), newReader(t, "h1", true), newReader(t, "h2", true), newReader(t, "h3", false)}
		limited := false
		for range 150 {
			c.change()
			if c.IntN(40) == 0 {
				limited = !limited
				d.limit(map[bool]uint32{true: 0, false: 1000}[limited])
			}
			e := d.edition(b)
			for _, r := range readers {
				switch c.IntN(8) {
				case 0:
					r.wanted = []string{c.name("svc", 8), c.name("svc", 12)}
					r.said++
				case 1:
					r.resume()
				case 2, 3:
					continue // reads late
				}
				r.read(e)
				if r.scoped && r.at.held == nil {
					r.said++ // it was asked what it wants
					r.read(e)
				}
				r.check(d, limited && r.parts && len(d.db.Read().Services(nil)) > 0)
				parts += r.partial
				r.partial = 0
			}
		}
	}
	if parts < 100 {
		t.Errorf("only %d services were told in part", parts)
	}
}

// An agent that does not know yet that it will be told less is asked first what
// it wants: what it uses must not be taken from it meanwhile.
func TestNothingIsTakenFromAnAgentUnasked(t *testing.T) {
	d, b := newTables(t), newBuilder()
	d.addHost("h0", web("web"))
	other := web("other")
	other.Service, other.Port = "other", 81
	d.addHost("h1", other)
	r := newReader(t, "h0", true)
	r.read(d.edition(b))
	r.check(d, false)
	d.limit(1)
	r.read(d.edition(b))
	if !r.scoped || len(r.services) != 2 || len(r.index) != 0 {
		t.Fatalf("before it was asked the agent was left with %d services, scoped %v", len(r.services), r.scoped)
	}
	r.read(d.edition(b))
	if len(r.services) != 2 {
		t.Fatal("services were taken before the answer")
	}
	r.wanted, r.said = []string{"other"}, r.said+1
	r.read(d.edition(b))
	r.check(d, true)
	r.wanted, r.said = nil, r.said+1
	r.read(d.edition(b))
	r.check(d, true)
	if len(r.services) != 1 || r.index["other"] == 0 {
		t.Errorf("the agent knows %v and the names of %v", r.services, r.index)
	}
	d.limit(2)
	r.read(d.edition(b))
	r.check(d, false)
}

// A service with very many instances comes in several pieces, and so does a
// whole mesh; what changed of it is small.
func TestLargeUpdatesComeInParts(t *testing.T) {
	d, b := newTables(t), newBuilder()
	const hosts = 1500
	d.limit(hosts)
	for n := range hosts {
		name := fmt.Sprintf("host-%05d", n)
		d.addHost(name, web("web-"+name))
	}
	r := newReader(t, "host-00000", true)
	u, _ := d.edition(b).update(view{nodeID: r.nodeID, parts: true}, r.at)
	messages := u.messages(true)
	for _, m := range messages {
		size := 0
		for _, piece := range m {
			size += len(piece)
		}
		if size > 2*partSize {
			t.Errorf("a message has %d bytes", size)
		}
	}
	if len(messages) < 2 {
		t.Errorf("%d messages for %d hosts", len(messages), hosts)
	}
	r.read(d.edition(b))
	r.check(d, false)
	d.apply(&command.SetInstances{NodeId: "host-00001", Remove: []string{"web-host-00001"}})
	changed := web("web-host-00002")
	changed.Health = apiv1.Health_HEALTH_CRITICAL
	d.apply(&command.SetInstances{NodeId: "host-00002", Put: []*apiv1.Instance{changed}})
	u, _ = d.edition(b).update(view{nodeID: r.nodeID, parts: true}, r.at)
	if told := decoded(t, u, true); proto.Size(told) > 300 {
		t.Errorf("two changed instances take %d bytes", proto.Size(told))
	}
	r.read(d.edition(b))
	r.check(d, false)
}

// The right to the whole catalogue is above the limit.
func TestTheWholeCatalogueIsARight(t *testing.T) {
	d, b := newTables(t), newBuilder()
	d.apply(&command.PutToken{Token: &apiv1.Token{Id: "w", SecretHash: hash("w"), ExpiresUnix: 100, WholeCatalogue: true}})
	d.apply(&command.PutNode{TokenId: "w", TimeUnix: 1, Node: &apiv1.Node{Id: "all", Name: "all", Address: "10.0.0.3", InboundPort: 7443, KeyHash: hash("all")}})
	d.addHost("h0", web("web"))
	d.addHost("h1")
	d.limit(0)
	for node, scoped := range map[string]bool{"all": false, "h1": true} {
		r := newReader(t, node, true)
		r.read(d.edition(b))
		r.check(d, scoped)
	}
}
