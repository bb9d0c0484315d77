package state

import (
	"testing"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

func TestSetInstances(t *testing.T) {
	m := newMesh(t)
	m.ok(join("n1", "vm1", "any"))
	put := func(all ...*apiv1.Instance) *command.SetInstances {
		return &command.SetInstances{NodeId: "n1", Put: all}
	}
	m.ok(put(instance("web-1", "web"), instance("web-2", "web"), instance("db", "db")))
	created := m.index
	m.touched("db", "web")
	txn := m.db.Read()
	if txn.Service(nil, "web").Vip != 1 || txn.Service(nil, "db").Vip != 2 {
		t.Errorf("%v", txn.Services(nil))
	}

	m.unchanged(put(instance("web-1", "web")))
	m.touched()

	sick := instance("web-1", "web")
	sick.Health = apiv1.Health_HEALTH_CRITICAL
	m.ok(put(sick))
	m.touched("web")
	if got := m.db.Read().Instances(nil, "web"); len(got) != 2 || got[0].CreateIndex != created || got[0].ModifyIndex != m.index || got[1].ModifyIndex != created {
		t.Errorf("%v", got)
	}

	m.ok(put(instance("web-1", "db"))) // the id is another service's now
	m.touched("db", "web")

	m.ok(&command.SetInstances{NodeId: "n1", Remove: []string{"web-1", "web-2", "gone"}})
	m.touched("db", "web")
	m.unchanged(&command.SetInstances{NodeId: "n1", Remove: []string{"web-1"}})
	if got := m.db.Read().NodeInstances(nil, "n1"); len(got) != 1 || got[0].Id != "db" {
		t.Errorf("%v", got)
	}

	m.ok(put(instance("cache", "cache"), instance("web", "web")))
	txn = m.db.Read()
	if txn.Service(nil, "cache").Vip != 3 || txn.Service(nil, "web").Vip != 1 {
		t.Errorf("a service's place is not its own for good: %v", txn.Services(nil))
	}
}

func TestSetInstancesRefuses(t *testing.T) {
	m := newMesh(t)
	m.ok(&command.PutToken{Token: &apiv1.Token{
		Id: "scoped", SecretHash: sum(1), ExpiresUnix: now + 10, AllowedServices: []string{"web", "orders-*"},
	}})
	m.ok(join("n1", "vm1", "scoped"))
	f := func(kind command.Refusal, want string, c *command.SetInstances) {
		t.Helper()
		if c.NodeId == "" {
			c.NodeId = "n1"
		}
		c.Put = append([]*apiv1.Instance{instance("good", "web")}, c.Put...)
		m.refused(c, kind, want)
	}
	one := func(id, service string, port uint32) *command.SetInstances {
		return &command.SetInstances{Put: []*apiv1.Instance{{Id: id, Service: service, Port: port}}}
	}
	f(isNotFound, "n9", &command.SetInstances{NodeId: "n9"})
	f(isInvalid, "instance", one("", "web", 80))
	f(isInvalid, "instance", one("a/b", "web", 80))
	f(isInvalid, "name", one("x", "Web", 80))
	f(isInvalid, "port 0", one("x", "web", 0))
	f(isInvalid, "port 65536", one("x", "web", 65536))
	f(isToken, `"orders"`, one("x", "orders", 80))
	f(isToken, `"webb"`, one("x", "webb", 80))
	f(isInvalid, "twice", one("good", "web", 80))
	f(isInvalid, "both put and removed", &command.SetInstances{Remove: []string{"good"}})
	f(isInvalid, "sent by", &command.SetInstances{Put: []*apiv1.Instance{{NodeId: "n2", Id: "x", Service: "web", Port: 80}}})
	m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{instance("a", "orders-a"), instance("w", "web")}})
}

// What a stream sent while it had the host's lease must not undo what a newer
// one has written since.
func TestSetInstancesOfAnOldLease(t *testing.T) {
	m := newMesh(t)
	m.ok(join("n1", "vm1", "any"))
	m.ok(&command.TakeLease{NodeId: "n1", ServerId: "s1", Epoch: 2})
	put := func(epoch uint64) *command.SetInstances {
		return &command.SetInstances{NodeId: "n1", Epoch: epoch, Put: []*apiv1.Instance{instance("web-1", "web")}}
	}
	for _, epoch := range []uint64{1, 3} {
		if r := m.db.Apply(m.index+1, put(epoch)); r.Refusal != command.Refusal_REFUSAL_STALE_LEASE {
			t.Errorf("epoch %d: %v", epoch, r)
		}
		m.index++
	}
	m.ok(put(2))
	m.ok(&command.SetInstances{NodeId: "n1", Remove: []string{"web-1"}}) // as before there were epochs
}

// The catalogue is bounded, since nothing ever leaves it.
func TestCatalogueIsFull(t *testing.T) {
	m := newMesh(t)
	m.db.places = 2
	m.ok(join("n1", "vm1", "any"))
	m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{instance("a", "a"), instance("b", "b")}})
	m.refused(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{instance("b", "b2")}}, isInvalid, `no place for the service "b2"`)
	m.refused(set(serviceResource("c")), isInvalid, `no place for the service "c"`)
	m.ok(set(serviceResource("a")))
}
