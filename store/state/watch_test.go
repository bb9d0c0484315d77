package state

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// woken tells whether a watch set has been woken, without waiting.
func woken(ws *WatchSet) bool {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan bool, 1)
	go func() { done <- ws.Wait(ctx) == nil }()
	synctest.Wait()
	cancel()
	return <-done
}

func TestWatch(t *testing.T) {
	f := func(name string, read func(*Txn, *WatchSet), wakes, sleeps func(*testMesh)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t)
				m.ok(join("n1", "vm1", "any"))
				m.ok(join("n2", "vm2", "any"))
				m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{instance("web", "web"), instance("db", "db")}})
				m.ok(set(meshResource(60), route("r", "web")))
				var ws WatchSet
				read(m.db.Read(), &ws)
				if woken(&ws) {
					t.Fatal("woken by nothing")
				}
				if sleeps != nil {
					sleeps(m)
					if woken(&ws) {
						t.Fatal("woken by what was not read")
					}
				}
				wakes(m)
				if !woken(&ws) {
					t.Fatal("not woken")
				}
			})
		})
	}
	dbChanges := func(m *testMesh) {
		i := instance("db", "db")
		i.Port = 81
		m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{i}})
	}
	webChanges := func(m *testMesh) {
		m.ok(&command.SetInstances{NodeId: "n2", Put: []*apiv1.Instance{instance("web", "web")}})
	}
	anything := func(m *testMesh) { m.ok(set()) }
	f("index", func(t *Txn, ws *WatchSet) { t.Index(ws) }, anything, nil)
	f("instances", func(t *Txn, ws *WatchSet) { t.Instances(ws, "web") }, webChanges, dbChanges)
	f("service", func(t *Txn, ws *WatchSet) { t.Service(ws, "web") }, webChanges, dbChanges)
	f("services since", func(t *Txn, ws *WatchSet) { t.ServicesSince(ws, 0) }, dbChanges, anything)
	f("a service to be", func(t *Txn, ws *WatchSet) { t.Service(ws, "new") }, func(m *testMesh) { m.ok(set(serviceResource("new"))) }, anything)
	f("node", func(t *Txn, ws *WatchSet) { t.Node(ws, "n1") }, func(m *testMesh) { m.ok(lease("n1", 1)) }, func(m *testMesh) { m.ok(lease("n2", 1)) })
	f("nodes since", func(t *Txn, ws *WatchSet) { t.NodesSince(ws, 0) }, func(m *testMesh) { m.ok(lease("n2", 1)) }, dbChanges)
	f("removed nodes", func(t *Txn, ws *WatchSet) { t.RemovedNodes(ws, 0) }, func(m *testMesh) { m.ok(&command.RemoveNode{NodeId: "n2"}) }, dbChanges)
	f("routes", func(t *Txn, ws *WatchSet) { t.Routes(ws, "web") }, func(m *testMesh) { m.ok(set(route("r2", "web"))) }, dbChanges)
	f("mesh", func(t *Txn, ws *WatchSet) { t.MeshConfig(ws) }, func(m *testMesh) { m.ok(unset("mesh", "mesh")) }, dbChanges)
	f("restore", func(t *Txn, ws *WatchSet) { t.Cluster(ws) }, func(m *testMesh) {
		var b bytes.Buffer
		if _, err := m.db.Snapshot().WriteTo(&b); err != nil {
			m.Fatal(err)
		}
		if err := m.db.Restore(&b); err != nil {
			m.Fatal(err)
		}
	}, anything)
}

func TestEmptyWatchSetWaitsForItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if woken(&WatchSet{}) {
			t.Fatal("woken")
		}
	})
}

// A transaction does not move, and readers do not hold up writers.
func TestTxnIsAMoment(t *testing.T) {
	m := newMesh(t)
	before := m.db.Read()
	m.ok(join("n1", "vm1", "any"))
	if before.Node(nil, "n1") != nil || m.db.Read().Node(nil, "n1") == nil {
		t.Fatal("a transaction sees what came after it")
	}
}

// fired tells whether anything that was read has changed.
func (ws *WatchSet) fired() bool {
	for ch := range ws.set {
		select {
		case <-ch:
			return true
		default:
		}
	}
	return false
}

// Of a thousand that wait for a service each, a change wakes those who wait for
// what has changed, also where names and keys begin alike.
func TestWatchesOfServicesAreApart(t *testing.T) {
	m := newMesh(t)
	var names []string
	for _, name := range []string{"web", "we", "w", "web-shop", "web-s", "db"} {
		names = append(names, name, name+"-1", name+"-10", name+"2")
	}
	for i, host := range []string{"n1", "n2", "n3"} {
		m.ok(join(host, "vm"+host, "any"))
		m.ok(lease(host, 1))
		c := &command.SetInstances{NodeId: host}
		for _, name := range names[i*8 : i*8+8] {
			c.Put = append(c.Put, instance(name, name), instance(name+"-b", name))
			m.ok(set(serviceResource(name), route(name, name), policy(name, name)))
		}
		m.ok(c)
	}
	f := func(want []string, msg proto.Message) {
		t.Helper()
		before := m.db.Read()
		watches := map[string]*WatchSet{}
		for _, name := range names {
			ws := &WatchSet{}
			before.Service(ws, name)
			before.Instances(ws, name)
			before.Routes(ws, name)
			before.Policies(ws, name)
			before.Resource(ws, "service", name)
			watches[name] = ws
		}
		m.ok(msg)
		var woken []string
		for _, name := range names {
			if watches[name].fired() {
				woken = append(woken, name)
			}
		}
		m.same(want, woken)
	}
	change := func(host, name string) *command.SetInstances {
		i := instance(name, name)
		i.Port = uint32(m.index)
		return &command.SetInstances{NodeId: host, Put: []*apiv1.Instance{i}}
	}
	f([]string{"web"}, change("n1", "web"))
	f([]string{"w"}, change("n2", "w"))
	f([]string{"web-s-10"}, change("n3", "web-s-10"))
	f([]string{"we"}, &command.SetInstances{NodeId: "n1", Remove: []string{"we"}})
	f(names[16:], &command.EndLease{NodeId: "n3", Epoch: 1, State: lost})
	f([]string{"web", "db"}, set(route("web", "db")))
	stricter := policy("web-1", "web-1")
	stricter.GetPolicy().Mode = apiv1.PolicyMode_POLICY_MODE_AUDIT
	f([]string{"web-1"}, set(stricter))
	f(nil, lease("n1", 2))
	f(nil, set(meshResource(60)))
	f(nil, &command.PutToken{Token: &apiv1.Token{Id: "t", SecretHash: sum('t'), ExpiresUnix: now}})
}
