package push

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

func hash(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

// A tables is a state to apply commands to.
type tables struct {
	t     *testing.T
	db    *state.DB
	index uint64
}

func newTables(t *testing.T) *tables {
	d := &tables{t: t, db: state.New()}
	d.apply(&command.InitCluster{
		Cluster:   &apiv1.Cluster{Id: "c1", TrustDomain: "mesh", FeatureLevel: command.MaxLevel},
		Authority: &apiv1.Authority{TrustDomain: "mesh", RootCertificate: []byte("root"), IssuingCertificate: []byte("i"), SealedIssuingKey: []byte("k")},
		Server:    &apiv1.Server{Id: "s1", Name: "s1", Address: "10.0.0.1:7300", GossipAddress: "10.0.0.1:7301", KeyHash: hash("s1"), FeatureLevel: command.MaxLevel},
	})
	d.apply(&command.PutToken{Token: &apiv1.Token{Id: "t", SecretHash: hash("t"), ExpiresUnix: 100, Reusable: true}})
	return d
}

func (d *tables) apply(msg proto.Message) {
	d.t.Helper()
	d.index++
	if r := d.db.Apply(d.index, msg); r.Refusal != command.Refusal_REFUSAL_NONE {
		d.t.Fatalf("%T refused: %s", msg, r.Message)
	}
}

func (d *tables) addHost(name string, instances ...*apiv1.Instance) {
	d.t.Helper()
	d.apply(&command.PutNode{TokenId: "t", TimeUnix: 1, Node: &apiv1.Node{Id: name, Name: name, Address: "10.0.0.2", InboundPort: 7443, KeyHash: hash(name)}})
	d.apply(&command.SetInstances{NodeId: name, Put: instances})
}

func web(id string) *apiv1.Instance {
	return &apiv1.Instance{Id: id, Service: "web", Port: 80, Protocol: apiv1.Protocol_PROTOCOL_HTTP, Health: apiv1.Health_HEALTH_PASSING}
}

// shape tells an update in words.
func shape(u *apiv1.SliceUpdate) string {
	if u == nil {
		return "nothing"
	}
	var words []string
	if u.Snapshot {
		words = append(words, "snapshot")
	}
	for _, s := range u.Services {
		words = append(words, "service "+s.Name)
	}
	for _, n := range u.Nodes {
		words = append(words, "node "+n.Name)
	}
	for _, n := range u.RemovedNodes {
		words = append(words, "without "+n)
	}
	if u.Mesh != nil {
		words = append(words, "mesh")
	}
	if u.Roots != nil {
		words = append(words, "roots")
	}
	return strings.Join(words, ", ")
}

// decoded is an update as its reader sees it, put together from its messages.
func decoded(t *testing.T, u *update, parts bool) *apiv1.SliceUpdate {
	t.Helper()
	whole := &apiv1.SliceUpdate{}
	messages := u.messages(parts)
	for i, message := range messages {
		m := &apiv1.ServerMessage{}
		if err := proto.Unmarshal(bytes.Join(message, nil), m); err != nil {
			t.Fatal(err)
		}
		if m.GetSlice().GetMore() != (i < len(messages)-1) {
			t.Errorf("message %d of %d says %v of more", i, len(messages), m.GetSlice().GetMore())
		}
		proto.Merge(whole, m.GetSlice())
	}
	whole.More = false
	return whole
}

// edition is the state as it is.
func (d *tables) edition(b *builder) *edition { return newEdition(d.db.Read(), b) }

func TestUpdatesLeadFromTheCursorToTheState(t *testing.T) {
	for _, parts := range []bool{false, true} {
		testUpdates(t, parts)
	}
}

func testUpdates(t *testing.T, parts bool) {
	d, b := newTables(t), newBuilder()
	var at cursor
	f := func(want string) {
		t.Helper()
		u, next := d.edition(b).update(view{nodeID: "h1", parts: parts}, at)
		var told *apiv1.SliceUpdate
		if u != nil {
			told = decoded(t, u, parts)
		}
		if got := shape(told); got != want {
			t.Errorf("update is %q, want %q", got, want)
		}
		if u != nil && told.Version != d.index {
			t.Errorf("update is to version %d, want %d", told.Version, d.index)
		}
		at = next
	}
	d.addHost("h1", web("web"))
	f("snapshot, service web, node h1, mesh, roots")
	f("nothing")
	d.apply(&command.PutToken{Token: &apiv1.Token{Id: "u", SecretHash: hash("u"), ExpiresUnix: 100}})
	f("nothing") // no agent's business
	d.addHost("h2", web("web"))
	f("service web, node h2")
	d.apply(&command.TakeLease{NodeId: "h1", ServerId: "s1", Epoch: 1})
	f("service web, node h1")
	d.apply(&command.TakeLease{NodeId: "h1", ServerId: "s1", Epoch: 2})
	f("nothing") // nobody sees where a lease is
	d.apply(&command.SetResources{Put: []*apiv1.Resource{{Name: "mesh", Spec: &apiv1.Resource_Mesh{Mesh: &apiv1.Mesh{}}}}})
	f("mesh")
	d.apply(&command.SetResources{Remove: []*command.ResourceKey{{Kind: "mesh", Name: "mesh"}}})
	f("mesh")
	d.apply(&command.PutAuthority{Authority: &apiv1.Authority{TrustDomain: "mesh", RootCertificate: []byte("new"), IssuingCertificate: []byte("i"), SealedIssuingKey: []byte("k")}})
	f("roots")
	d.apply(&command.RemoveNode{NodeId: "h1"})
	f("service web, without h1")

	// A stream that resumes is always told something, to know that it is current.
	at = cursor{version: d.index}
	f("mesh, roots")
	at = cursor{version: d.index + 1}
	f("snapshot, service web, node h2, mesh, roots")
}

func TestDuringARotationSeveralRootsAreTrusted(t *testing.T) {
	d, b := newTables(t), newBuilder()
	d.apply(&command.PutAuthority{Authority: &apiv1.Authority{
		TrustDomain: "mesh", RootCertificate: []byte("old"), OtherRoots: [][]byte{[]byte("new")}, Generation: 4,
		IssuingCertificate: []byte("i"), SealedIssuingKey: []byte("k"),
	}})
	made, _ := d.edition(b).update(view{}, cursor{})
	u := decoded(t, made, true)
	if diff := cmp.Diff([][]byte{[]byte("old"), []byte("new")}, u.Roots); diff != "" || u.AuthorityGeneration != 4 {
		t.Errorf("generation %d, roots (-want +got):\n%s", u.AuthorityGeneration, diff)
	}
}

func TestAServiceIsBuiltOnceForAllAgents(t *testing.T) {
	d, b := newTables(t), newBuilder()
	d.addHost("h1", web("web"))
	get := func(txn *state.Txn) *built { return b.service(txn, txn.Service(nil, "web")) }
	old := d.db.Read()
	first := get(old)
	if get(old) != first {
		t.Error("the service was built again for the second agent")
	}
	d.apply(&command.SetInstances{NodeId: "h1", Remove: []string{"web"}})
	second := get(d.db.Read())
	if second == first || len(second.endpoints) != 0 {
		t.Error("a change did not show")
	}
	if again := get(old); len(again.endpoints) != 1 {
		t.Error("a reader of an older state was given a newer slice")
	}
	if get(d.db.Read()) != second {
		t.Error("a reader of an older state made the others build again")
	}
}

func TestDifference(t *testing.T) {
	f := func(have, want []*apiv1.Instance, put, remove []string) {
		t.Helper()
		gotPut, gotRemove := difference(have, want)
		var ids []string
		for _, i := range gotPut {
			ids = append(ids, i.Id)
		}
		if diff := cmp.Diff([][]string{put, remove}, [][]string{ids, gotRemove}); diff != "" {
			t.Errorf("difference (-want +got):\n%s", diff)
		}
	}
	stored := func(id string) *apiv1.Instance {
		i := web(id)
		i.NodeId, i.Weight, i.CreateIndex, i.ModifyIndex = "h1", 1, 7, 9
		return i
	}
	own := func(ids ...string) (set []*apiv1.Instance) {
		for _, id := range ids {
			set = append(set, web(id))
		}
		return ownInstances("h1", set)
	}
	f(nil, own("a"), []string{"a"}, nil)
	f([]*apiv1.Instance{stored("a")}, own("a"), nil, nil)
	f([]*apiv1.Instance{stored("a"), stored("b")}, own("b", "c"), []string{"c"}, []string{"a"})
	changed := own("a")
	changed[0].Health = apiv1.Health_HEALTH_CRITICAL
	f([]*apiv1.Instance{stored("a")}, changed, []string{"a"}, nil)
	f([]*apiv1.Instance{stored("a")}, nil, nil, []string{"a"})

	sent := web("a")
	sent.CreateIndex, sent.ModifyIndex = 1, 2
	before := proto.CloneOf(sent)
	ownInstances("h1", []*apiv1.Instance{sent})
	if diff := cmp.Diff(before, sent, protocmp.Transform()); diff != "" {
		t.Errorf("what the agent sent was modified:\n%s", diff)
	}
}

// What is wrong with one instance must not keep the others from being written.
func TestRefusedInstancesLeaveTheOthers(t *testing.T) {
	node := &apiv1.Node{Id: "h1", Name: "h1", AllowedServices: []string{"web", "db"}}
	at := func(id, service string, port uint32) *apiv1.Instance {
		i := web(id)
		i.Service, i.Port = service, port
		return i
	}
	f := func(have, set []*apiv1.Instance, want ...string) {
		t.Helper()
		valid, refused := choose(node, have, set)
		got := ids(valid)
		for _, r := range refused {
			got = append(got, r.Id+": "+r.Reason)
		}
		if len(got) != len(want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		for n := range got {
			if !strings.HasPrefix(got[n], want[n]) {
				t.Errorf("got %q, want %q", got[n], want[n])
			}
		}
	}
	f(nil, []*apiv1.Instance{at("a", "web", 80), at("x", "admin", 81), at("b", "db", 82)},
		"a", "b", `x: host "h1" may not run the service "admin"`)
	f(nil, []*apiv1.Instance{at("a", "web", 80), at("a", "web", 81), at("b", "web", 80), at("c", "db", 0)},
		"a", "a: the id is given twice", `b: service web is on port 80 already as instance "a"`, "c: port")
	// The newcomer gives way.
	f([]*apiv1.Instance{at("b", "web", 80)}, []*apiv1.Instance{at("a", "web", 80), at("b", "web", 80)},
		"b", `a: service web is on port 80 already as instance "b"`)

	var many []*apiv1.Instance
	for n := range maxInstances + maxNamed + 1 {
		many = append(many, at(fmt.Sprint("i", n), "web", uint32(n+1)))
	}
	valid, refused := choose(node, nil, many)
	if text := describe(refused); len(valid) != maxInstances || len(refused) != maxNamed+1 || !strings.HasSuffix(text, "and 1 more") {
		t.Errorf("%d are taken, %d refused: %s", len(valid), len(refused), text)
	}
}

func TestProblemsAreCutBetweenCharacters(t *testing.T) {
	a := newAcks()
	a.take(&apiv1.Ack{Problems: []string{"x" + strings.Repeat("\u00e9", maxProblemSize)}})
	if _, err := proto.Marshal(a.status("h1")); err != nil {
		t.Error(err)
	}
}

func TestAcksAreBounded(t *testing.T) {
	a := newAcks()
	problems := make([]string, 2*maxProblems)
	for i := range problems {
		problems[i] = strings.Repeat("x", 2*maxProblemSize)
	}
	a.take(&apiv1.Ack{Version: 3, Problems: problems})
	s := a.status("h1")
	if s.Version != 3 || len(s.Problems) != maxProblems || len(s.Problems[0]) != maxProblemSize {
		t.Errorf("version %d with %d problems is kept", s.Version, len(s.Problems))
	}
}

func TestTheOutboxKeepsTheNewestOfEachKind(t *testing.T) {
	o := newOutbox()
	for i := range uint64(3) {
		o.fill(func(o *outbox) {
			o.beat = true
			o.result = &apiv1.RegistrationsResult{Sequence: i}
			o.slice = []grpcx.Encoded{{{byte(i)}}, {{byte(i) + 1}}}
			o.welcome = &apiv1.Welcome{}
		})
	}
	var got []string
	for m := o.take(); m != nil; m = o.take() {
		if slice, ok := m.(grpcx.Encoded); ok {
			got = append(got, fmt.Sprint("slice ", slice[0][0]))
			o.fill(func(o *outbox) { o.beat = true }) // comes between two parts
			continue
		}
		switch m := m.(*apiv1.ServerMessage).Message.(type) {
		case *apiv1.ServerMessage_Welcome:
			got = append(got, "welcome")
		case *apiv1.ServerMessage_Heartbeat:
			got = append(got, "heartbeat")
		case *apiv1.ServerMessage_Registrations:
			got = append(got, "result "+string(rune('0'+m.Registrations.Sequence)))
		}
	}
	if diff := cmp.Diff([]string{"welcome", "heartbeat", "result 2", "slice 2", "heartbeat", "slice 3", "heartbeat"}, got); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}
