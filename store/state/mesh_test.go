package state

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

const now = 1_800_000_000

// A testMesh is a state with one server, "s1", and a reusable join token, "any".
type testMesh struct {
	*testing.T
	db    *DB
	index uint64
}

func newMesh(t *testing.T) *testMesh {
	m := &testMesh{T: t, db: New(), index: 10}
	m.ok(initCluster())
	m.ok(&command.PutToken{Token: &apiv1.Token{Id: "any", SecretHash: sum('t'), Server: true, ExpiresUnix: now + 3600, Reusable: true}})
	return m
}

func initCluster() *command.InitCluster {
	return &command.InitCluster{
		Cluster: &apiv1.Cluster{Id: "c1", Name: "test", TrustDomain: "test.mesh", CreatedUnix: now, FeatureLevel: command.MaxLevel},
		Authority: &apiv1.Authority{
			TrustDomain: "test.mesh", RootCertificate: []byte("root"), IssuingCertificate: []byte("issuing"),
			SealedRootKey: []byte("root key"), SealedIssuingKey: []byte("issuing key"),
		},
		Server: server("s1"),
	}
}

// newLevel1 is a mesh of the first version, that says nothing of levels.
func newLevel1(t *testing.T) *testMesh {
	m := &testMesh{T: t, db: New(), index: 10}
	c := initCluster()
	c.Cluster.FeatureLevel, c.Server.FeatureLevel, c.Server.Version = 0, 0, ""
	m.ok(c)
	return m
}

// audited wraps a command in the record of who wanted it.
func audited(msg proto.Message) *command.Audited {
	entry, err := command.Encode(msg)
	if err != nil {
		panic(err)
	}
	return &command.Audited{Entry: entry, Record: &apiv1.AuditRecord{
		TimeUnixNano: now * 1e9, Actor: "user root", Role: apiv1.Role_ROLE_ADMIN, Source: "unix", Server: "vm1", Action: "test", Objects: []string{"thing"},
	}}
}

func sum(c byte) []byte { return bytes.Repeat([]byte{c}, 32) }

func server(id string) *apiv1.Server {
	return &apiv1.Server{
		Id: id, Name: "server-" + id, Address: "10.0.0.1:7300", GossipAddress: "10.0.0.1:7301", KeyHash: sum('A' + id[1]),
		Version: "1.0.0", FeatureLevel: command.MaxLevel,
	}
}

// node makes a host whose key is told by the last letter of its id.
func node(id, name string) *apiv1.Node {
	return &apiv1.Node{Id: id, Name: name, Address: "10.0.0.9", InboundPort: 7443, Version: "1.0.0", KeyHash: sum(id[len(id)-1])}
}

func join(id, name, token string) *command.PutNode {
	return &command.PutNode{Node: node(id, name), TokenId: token, TimeUnix: now}
}

func lease(node string, epoch uint64) *command.TakeLease {
	return &command.TakeLease{NodeId: node, ServerId: "s1", Epoch: epoch, Address: "10.0.0.9", InboundPort: 7443, Version: "1.0.0"}
}

func instance(id, service string) *apiv1.Instance {
	return &apiv1.Instance{Id: id, Service: service, Port: 80, Weight: 1, Health: apiv1.Health_HEALTH_PASSING}
}

func (m *testMesh) apply(msg proto.Message) *command.Result {
	m.Helper()
	m.index++
	r := m.db.Apply(m.index, msg)
	if r.Index != m.index || m.db.Read().Index(nil) != m.index {
		m.Fatalf("applied %d, the result says %d and the state %d", m.index, r.Index, m.db.Read().Index(nil))
	}
	return r
}

// ok applies what must not be refused.
func (m *testMesh) ok(msg proto.Message) *command.Result {
	m.Helper()
	r := m.apply(msg)
	if r.Refusal != 0 {
		m.Fatalf("%v: %v: %s", msg, r.Refusal, r.Message)
	}
	return r
}

// refused applies what must be refused, in words with want in them, and change
// nothing but the index.
func (m *testMesh) refused(msg proto.Message, kind command.Refusal, want string) *command.Result {
	m.Helper()
	before := m.rows()
	r := m.apply(msg)
	if r.Refusal != kind || !strings.Contains(r.Message, want) {
		m.Fatalf("%v: %v %q, want %v with %q", msg, r.Refusal, r.Message, kind, want)
	}
	m.same(before, m.rows())
	return r
}

// unchanged applies what is right and changes nothing but the index.
func (m *testMesh) unchanged(msg proto.Message) *command.Result {
	m.Helper()
	before := m.rows()
	r := m.ok(msg)
	m.same(before, m.rows())
	return r
}

// rows are all rows of the state, as a snapshot has them.
func (m *testMesh) rows() (rows []*Record) {
	m.db.Snapshot().records(func(r *Record) { rows = append(rows, r) })
	return rows
}

func (m *testMesh) same(want, got any) {
	m.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		m.Fatalf("-want +got:\n%s", diff)
	}
}

// touched checks which services have changed with the last command.
func (m *testMesh) touched(want ...string) {
	m.Helper()
	var got []string
	for _, s := range m.db.Read().ServicesSince(nil, m.index-1) {
		got = append(got, s.Name)
	}
	m.same(want, got)
}
