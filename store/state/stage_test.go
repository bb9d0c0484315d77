package state

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// bring is what brings back a saved state in one part.
func bring(saved []byte) *command.RestoreState {
	return &command.RestoreState{Id: "r1", Data: saved, Last: true, TimeUnix: now + 9}
}

func TestRestoreState(t *testing.T) {
	m := newMesh(t)
	m.ok(&command.PutToken{Token: &apiv1.Token{Id: "once", SecretHash: sum(1), ExpiresUnix: now + 10}})
	m.ok(&command.PutToken{Token: &apiv1.Token{Id: "revoked", SecretHash: sum(1), ExpiresUnix: now + 10}})
	for _, id := range []string{"n1", "n2"} {
		m.ok(join(id, "vm"+id[1:], "any"))
		m.ok(lease(id, 1))
		m.ok(&command.SetInstances{NodeId: id, Put: []*apiv1.Instance{instance("web", "web"), instance("db", "db")}})
	}
	m.ok(set(route("kept", "web"), route("changed", "web"), route("gone", "web"), serviceResource("same")))
	saved := snapshot(t, m.db)
	savedAt := m.index

	m.ok(&command.RemoveToken{Id: "revoked"})
	m.ok(join("n3", "vm3", "once"))
	m.ok(&command.RemoveNode{NodeId: "n2"})
	m.ok(set(route("changed", "db"), policy("new", "later"), meshResource(60)))
	m.ok(unset("route", "gone"))
	before := m.db.Read()

	r := m.ok(bring(saved))
	m.same("host vm2 created, route changed updated, route gone created, route kept unchanged, service same unchanged, mesh mesh deleted, policy new deleted", changes(r))
	txn := m.db.Read()
	if n := txn.Node(nil, "n2"); n.State != lost || n.LeaseServer != "" || n.StateUnix != now+9 || n.ModifyIndex != m.index {
		t.Errorf("%v", n)
	}
	if names, complete := txn.RemovedNodes(nil, savedAt); names != nil || !complete {
		t.Errorf("removed: %v, complete: %v", names, complete)
	}
	if back := txn.NodeInstances(nil, "n2"); len(back) != 2 || back[0].Id != "db" || back[0].ModifyIndex != m.index {
		t.Errorf("the instances of vm2 are %v", back)
	}
	m.same(before.NodeInstances(nil, "n1"), txn.NodeInstances(nil, "n1"))
	m.same(before.Node(nil, "n1"), txn.Node(nil, "n1"))
	m.same(before.Node(nil, "n3"), txn.Node(nil, "n3"))
	m.same(before.Tokens(nil), txn.Tokens(nil))
	if got := txn.Resource(nil, "route", "changed"); got.GetRoute().Service != "web" || got.Version != m.index {
		t.Errorf("%v", got)
	}
	if got := txn.Resource(nil, "route", "kept"); got.Version != savedAt {
		t.Errorf("%v", got)
	}
	if txn.Service(nil, "later") == nil || txn.RestoredIndex(nil) != m.index {
		t.Errorf("%v, restored at %d", txn.Services(nil), txn.RestoredIndex(nil))
	}
	for _, c := range m.ok(bring(saved)).Changes { // once more
		if c.Action != "unchanged" {
			t.Errorf("%v", c)
		}
	}
}

func TestRestoreStateOfAnotherMesh(t *testing.T) {
	other := &testMesh{T: t, db: New(), index: 10}
	c := initCluster()
	c.Cluster.Id = "c2"
	other.ok(c)
	other.ok(&command.PutToken{Token: &apiv1.Token{Id: "any", SecretHash: sum('t'), ExpiresUnix: now + 3600, Reusable: true}})
	other.ok(join("n9", "vm9", "any"))
	other.ok(set(serviceResource("web")))
	m := newMesh(t)
	m.ok(join("n1", "vm1", "any"))
	saved := bring(snapshot(t, other.db))
	m.refused(saved, isConflict, `of mesh "test" (id c2), and this is mesh "test" (id c1)`)
	saved.OtherMesh = true
	m.same("service web created", changes(m.ok(saved)))
	if txn := m.db.Read(); len(txn.Nodes(nil)) != 1 || txn.Cluster(nil).Id != "c1" {
		t.Errorf("%v %v", txn.Nodes(nil), txn.Cluster(nil))
	}
}

func TestRestoreStateInParts(t *testing.T) {
	m := newMesh(t)
	m.ok(set(serviceResource("web")))
	saved := snapshot(t, m.db)
	m.ok(unset("service", "web"))
	part := func(id string, from, to int) *command.RestoreState {
		c := &command.RestoreState{Id: id, Offset: uint64(from), Data: saved[from:min(to, len(saved))], Last: to >= len(saved), TimeUnix: now}
		return c
	}
	m.refused(part("a", 10, 20), isConflict, "begin it anew")
	m.ok(part("a", 0, 10))
	m.ok(part("a", 10, 100))
	m.refused(part("a", 10, 100), isConflict, "begin it anew")
	m.refused(part("b", 100, 200), isConflict, "begin it anew")

	// Parts are in snapshots, so that a server that gets one can go on.
	if err := m.db.Restore(bytes.NewReader(snapshot(t, m.db))); err != nil {
		t.Fatal(err)
	}
	m.ok(part("a", 100, len(saved)))
	if txn := m.db.Read(); txn.Resource(nil, "service", "web") == nil || txn.staged() != nil {
		t.Errorf("%v, %d parts are left", txn.Resources(nil, ""), len(txn.staged()))
	}

	m.ok(part("b", 0, 10))
	m.ok(part("c", 0, 20)) // takes its place
	m.refused(part("b", 10, 20), isConflict, "begin it anew")
	m.ok(part("c", 20, 30))
	m.unchanged(&command.Reap{TimeUnix: now + stageLife - 1})
	m.ok(&command.Reap{TimeUnix: now + stageLife})
	m.refused(part("c", 30, 40), isConflict, "begin it anew")
}

func TestRestoreStateRefuses(t *testing.T) {
	m := newMesh(t)
	good := snapshot(t, m.db)
	f := func(want string, spoil func(*command.RestoreState)) {
		t.Helper()
		c := bring(good)
		spoil(c)
		m.refused(c, isInvalid, want)
	}
	f("which restore", func(c *command.RestoreState) { c.Id = "" })
	f("which restore", func(c *command.RestoreState) { c.TimeUnix = 0 })
	f("cut short", func(c *command.RestoreState) { c.Data = good[:len(good)-1] })
	f("cut short", func(c *command.RestoreState) { c.Data = nil })
	f("empty", func(c *command.RestoreState) { c.Data = snapshot(t, New()) })
	cluster := proto.CloneOf(initCluster().Cluster)
	f("name", func(c *command.RestoreState) {
		c.Data = forge(&Record{Row: &Record_Cluster{cluster}}, &Record{Row: &Record_Resource{meshNamed("X")}})
	})
}

func meshNamed(name string) *apiv1.Resource {
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Mesh{Mesh: &apiv1.Mesh{}}}
}
