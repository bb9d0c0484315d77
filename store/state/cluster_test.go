package state

import (
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

const (
	isInvalid  = command.Refusal_REFUSAL_INVALID
	isNotFound = command.Refusal_REFUSAL_NOT_FOUND
	isExists   = command.Refusal_REFUSAL_EXISTS
	isConflict = command.Refusal_REFUSAL_CONFLICT
	isToken    = command.Refusal_REFUSAL_TOKEN
	isStale    = command.Refusal_REFUSAL_STALE_LEASE
	isNotInit  = command.Refusal_REFUSAL_NOT_INITIALIZED
	isUnknown  = command.Refusal_REFUSAL_UNKNOWN_ENTRY
)

func TestInitCluster(t *testing.T) {
	m := &testMesh{T: t, db: New()}
	f := func(spoil func(*command.InitCluster), want string) {
		t.Helper()
		c := initCluster()
		spoil(c)
		m.refused(c, isInvalid, want)
	}
	f(func(c *command.InitCluster) { c.Cluster = nil }, "cluster id")
	f(func(c *command.InitCluster) { c.Cluster.TrustDomain = "Not.A.Domain" }, "trust domain")
	f(func(c *command.InitCluster) { c.Authority = nil }, "trust domain")
	f(func(c *command.InitCluster) { c.Authority.TrustDomain = "other.mesh" }, "other.mesh")
	f(func(c *command.InitCluster) { c.Authority.SealedIssuingKey = nil }, "issuing key")
	f(func(c *command.InitCluster) { c.Server = nil }, "server id")
	f(func(c *command.InitCluster) { c.Server.Name = "a b" }, "name")
	f(func(c *command.InitCluster) { c.Server.Address = "10.0.0.1" }, "host:port")
	f(func(c *command.InitCluster) { c.Server.GossipAddress = ":7301" }, "host:port")
	f(func(c *command.InitCluster) { c.Server.KeyHash = nil }, "hash")

	if r := m.ok(initCluster()); r.Id != "s1" {
		t.Errorf("the result names server %q", r.Id)
	}
	txn := m.db.Read()
	if txn.Cluster(nil).TrustDomain != "test.mesh" || txn.Authority(nil).ModifyIndex != m.index || txn.Server(nil, "s1").CreateIndex != m.index {
		t.Errorf("%v %v %v", txn.Cluster(nil), txn.Authority(nil), txn.Servers(nil))
	}
	m.refused(initCluster(), isExists, "empty data directory")
}

func TestNothingBeforeInit(t *testing.T) {
	m := &testMesh{T: t, db: New()}
	for i := range command.Type(256) {
		if msg := i.New(); msg != nil && i != command.TypeInitCluster {
			m.refused(msg, isNotInit, "meshd init")
		}
	}
}

func TestUnknownEntry(t *testing.T) {
	m := newMesh(t)
	m.refused(nil, isUnknown, "update this server")
	m.refused(&apiv1.Node{}, isUnknown, "update this server")
}

// An empty command of any type is refused or does nothing, and never panics.
func TestEmptyCommands(t *testing.T) {
	m := newMesh(t)
	for i := range command.Type(256) {
		if msg := i.New(); msg != nil {
			before := m.rows()
			m.apply(msg)
			m.same(before, m.rows())
		}
	}
}

func TestPutServer(t *testing.T) {
	m := newMesh(t)
	put := func(s *apiv1.Server, token string) *command.PutServer {
		return &command.PutServer{Server: s, TokenId: token, TimeUnix: now}
	}
	m.ok(&command.PutToken{Token: &apiv1.Token{Id: "hosts", SecretHash: sum('t'), ExpiresUnix: now + 3600}})
	m.refused(put(server("s2"), ""), isToken, "not known")
	m.refused(put(server("s2"), "hosts"), isToken, "--server")
	if r := m.ok(put(server("s2"), "any")); r.Id != "s2" {
		t.Errorf("the result names server %q", r.Id)
	}
	m.unchanged(put(server("s2"), ""))

	moved := server("s2")
	moved.Address = "10.9.9.9:7300"
	m.ok(put(moved, ""))
	if got := m.db.Read().Server(nil, "s2"); got.Address != moved.Address || got.CreateIndex == m.index {
		t.Errorf("%v", got)
	}

	again := server("s3") // the same key, asking anew with another id
	again.KeyHash, again.Name, again.Address = moved.KeyHash, moved.Name, moved.Address
	m.refused(put(again, ""), isToken, "not known")
	if r := m.unchanged(put(again, "any")); r.Id != "s2" {
		t.Errorf("the result names server %q", r.Id)
	}

	renamed := proto.CloneOf(moved)
	renamed.Name = "other"
	m.refused(put(renamed, ""), isExists, "member as")
	namesake := server("s4")
	namesake.Name = moved.Name
	m.refused(put(namesake, "any"), isExists, "another name")
	thief := server("s4")
	thief.Id = "s2"
	m.refused(put(thief, "any"), isExists, "belongs to")
}

func TestRemoveServer(t *testing.T) {
	m := newMesh(t)
	m.refused(&command.RemoveServer{Id: "s9"}, isNotFound, "s9")
	m.refused(&command.RemoveServer{Id: "s1"}, isInvalid, "last one")

	m.ok(&command.PutServer{Server: server("s2"), TokenId: "any", TimeUnix: now})
	m.ok(join("n1", "vm1", "any"))
	m.ok(join("n2", "vm2", "any"))
	m.ok(lease("n1", 1))
	c := lease("n2", 1)
	c.ServerId = "s2"
	m.ok(c)
	m.ok(&command.RemoveServer{Id: "s2"})
	txn := m.db.Read()
	if txn.Node(nil, "n1").State != apiv1.NodeState_NODE_STATE_ALIVE || txn.Node(nil, "n2").State != apiv1.NodeState_NODE_STATE_LOST {
		t.Errorf("%v", txn.Nodes(nil))
	}
	if len(txn.Servers(nil)) != 1 {
		t.Errorf("%v", txn.Servers(nil))
	}
}

func TestPutAuthority(t *testing.T) {
	m := newMesh(t)
	there := m.db.Read().Authority(nil)
	m.unchanged(&command.PutAuthority{Authority: there})
	next := proto.CloneOf(there)
	next.IssuingCertificate = []byte("next")
	m.ok(&command.PutAuthority{Authority: next})
	if got := m.db.Read().Authority(nil); string(got.IssuingCertificate) != "next" || got.ModifyIndex != m.index {
		t.Errorf("%v", got)
	}
}

func TestTokens(t *testing.T) {
	m := newMesh(t)
	f := func(want string, token *apiv1.Token) {
		t.Helper()
		m.refused(&command.PutToken{Token: token}, isInvalid, want)
	}
	f("token id", nil)
	f("token id", &apiv1.Token{Id: "a/b", SecretHash: sum(1), ExpiresUnix: now})
	f("hash", &apiv1.Token{Id: "t", SecretHash: []byte("plain"), ExpiresUnix: now})
	f("expires", &apiv1.Token{Id: "t", SecretHash: sum(1)})

	put := &command.PutToken{Token: &apiv1.Token{Id: "t", SecretHash: sum(1), ExpiresUnix: now, UsedBy: sum(2), UsedUnix: 1}}
	m.ok(put)
	m.same(&apiv1.Token{
		Id: "t", SecretHash: sum(1), ExpiresUnix: now, AllowedServices: []string{"*"}, CreateIndex: m.index,
	}, m.db.Read().Token(nil, "t"))
	m.refused(put, isExists, "already")
	m.ok(&command.RemoveToken{Id: "t"})
	m.refused(&command.RemoveToken{Id: "t"}, isNotFound, "token list")
}

func TestUpdateServer(t *testing.T) {
	m := newMesh(t)
	m.refused(&command.UpdateServer{Server: server("s2")}, isNotFound, "s2")
	next := server("s1")
	next.KeyHash, next.Version, next.Address, next.FeatureLevel = nil, "1.1.0", "10.9.9.9:7300", 3
	m.ok(&command.UpdateServer{Server: next})
	want := proto.CloneOf(next)
	want.KeyHash, want.CreateIndex = server("s1").KeyHash, 11
	m.same(want, m.db.Read().Server(nil, "s1"))
	m.unchanged(&command.UpdateServer{Server: next})

	next.KeyHash = sum('?')
	m.refused(&command.UpdateServer{Server: next}, isInvalid, "another key")
	next.KeyHash, next.Name = nil, "other"
	m.refused(&command.UpdateServer{Server: next}, isExists, "member as")
	next.Name, next.Address = "server-s1", "nonsense"
	m.refused(&command.UpdateServer{Server: next}, isInvalid, "host:port")
}

func TestRecover(t *testing.T) {
	m := newMesh(t)
	for _, id := range []string{"s2", "s3"} {
		m.ok(&command.PutServer{Server: server(id), TokenId: "any", TimeUnix: now})
	}
	m.ok(join("n1", "vm1", "any"))
	c := lease("n1", 1)
	c.ServerId = "s3"
	m.ok(c)
	f := func(kind command.Refusal, want string, recovery uint32, ids ...string) {
		t.Helper()
		m.refused(&command.Recover{Recovery: recovery, ServerIds: ids, TimeUnix: now}, kind, want)
	}
	f(isConflict, "cannot follow", 2, "s1")
	f(isNotFound, "s9", 1, "s1", "s9")
	f(isInvalid, "no server", 1)
	m.ok(&command.Recover{Recovery: 1, ServerIds: []string{"s1"}, TimeUnix: now + 9})
	txn := m.db.Read()
	if len(txn.Servers(nil)) != 1 || txn.Server(nil, "s1") == nil || txn.Cluster(nil).Recovery != 1 {
		t.Errorf("%v %v", txn.Servers(nil), txn.Cluster(nil))
	}
	if n := txn.Node(nil, "n1"); n.State != lost || n.StateUnix != now+9 {
		t.Errorf("%v", n)
	}
	m.unchanged(&command.Recover{Recovery: 1, ServerIds: []string{"s1"}})
	f(isConflict, "cannot follow", 0, "s1")
}

func TestAccessTokens(t *testing.T) {
	m := newMesh(t)
	f := func(want string, spoil func(*apiv1.AccessToken)) {
		t.Helper()
		token := accessToken("ci")
		spoil(token)
		m.refused(&command.PutAccessToken{Token: token}, isInvalid, want)
	}
	f("token id", func(t *apiv1.AccessToken) { t.Id = "a/b" })
	f("hash", func(t *apiv1.AccessToken) { t.SecretHash = []byte("plain") })
	f("role", func(t *apiv1.AccessToken) { t.Role = 0 })
	f("role", func(t *apiv1.AccessToken) { t.Role = apiv1.Role_ROLE_ADMIN + 1 })
	f("expires", func(t *apiv1.AccessToken) { t.ExpiresUnix = -1 })
	m.ok(&command.PutAccessToken{Token: accessToken("ci")})
	want := accessToken("ci")
	want.CreateIndex = m.index
	m.same([]*apiv1.AccessToken{want}, m.db.Read().AccessTokens(nil))
	m.refused(&command.PutAccessToken{Token: accessToken("ci")}, isExists, "already")
	m.ok(&command.RemoveAccessToken{Id: "ci"})
	m.refused(&command.RemoveAccessToken{Id: "ci"}, isNotFound, "ci")
}
