package state

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

const (
	unseen = apiv1.NodeState_NODE_STATE_UNSPECIFIED
	alive  = apiv1.NodeState_NODE_STATE_ALIVE
	lost   = apiv1.NodeState_NODE_STATE_LOST
	left   = apiv1.NodeState_NODE_STATE_LEFT
)

func TestPutNode(t *testing.T) {
	m := newMesh(t)
	c := join("n1", "vm1", "any")
	c.Node.AllowedServices = []string{"forged"}
	c.Node.State, c.Node.LeaseEpoch = alive, 99
	if r := m.ok(c); r.Id != "n1" {
		t.Errorf("the result names host %q", r.Id)
	}
	want := node("n1", "vm1")
	want.AllowedServices, want.StateUnix = []string{"*"}, now
	want.CreateIndex, want.ModifyIndex = m.index, m.index
	m.same(want, m.db.Read().Node(nil, "n1"))
}

func TestPutNodeRefusesWhatIsWrong(t *testing.T) {
	m := newMesh(t)
	f := func(spoil func(*command.PutNode), want string) {
		t.Helper()
		c := join("n1", "vm1", "any")
		spoil(c)
		m.refused(c, isInvalid, want)
	}
	f(func(c *command.PutNode) { c.Node = nil }, "host id")
	f(func(c *command.PutNode) { c.Node.Id = "a b" }, "host id")
	f(func(c *command.PutNode) { c.Node.Name = "VM1" }, "name")
	f(func(c *command.PutNode) { c.Node.Address = "vm1.example" }, "IP address")
	f(func(c *command.PutNode) { c.Node.InboundPort = 70000 }, "port 70000")
	f(func(c *command.PutNode) { c.Node.KeyHash = nil }, "hash")
	f(func(c *command.PutNode) { c.TimeUnix = 0 }, "when")
}

func TestTokenLetsIn(t *testing.T) {
	m := newMesh(t)
	m.ok(&command.PutToken{Token: &apiv1.Token{Id: "once", SecretHash: sum(1), ExpiresUnix: now + 10}})
	m.ok(&command.PutToken{Token: &apiv1.Token{
		Id: "scoped", SecretHash: sum(1), ExpiresUnix: now + 10, Reusable: true,
		AllowedNames: []string{"vm1", "vm2"}, AllowedServices: []string{"web", "orders*"},
	}})
	m.refused(join("n1", "vm1", ""), isToken, "not known")
	m.refused(join("n1", "vm1", "none"), isToken, "not known")
	m.refused(join("n3", "vm3", "scoped"), isToken, `"vm3"`)
	late := join("n1", "vm1", "once")
	late.TimeUnix = now + 10
	m.refused(late, isToken, "expired at 2027-01-15T08:00:10Z")

	m.ok(join("n1", "vm1", "once"))
	if token := m.db.Read().Token(nil, "once"); string(token.UsedBy) != string(sum('1')) || token.UsedUnix != now {
		t.Errorf("%v", token)
	}
	m.refused(join("n2", "vm2", "once"), isToken, "used by another host")
	m.ok(join("n2", "vm2", "scoped"))
	m.same([]string{"web", "orders*"}, m.db.Read().Node(nil, "n2").AllowedServices)
}

// The answer to a join was lost: the host asks again, with the key it has and
// an id that some server has thought of.
func TestRepeatedJoin(t *testing.T) {
	m := newMesh(t)
	m.ok(&command.PutToken{Token: &apiv1.Token{Id: "once", SecretHash: sum(1), ExpiresUnix: now + 10}})
	m.ok(join("n1", "vm1", "once"))
	m.ok(lease("n1", 3))
	again := join("n-other-1", "vm1", "once")
	again.TimeUnix = now + 5
	if r := m.unchanged(again); r.Id != "n1" {
		t.Errorf("the result names host %q", r.Id)
	}

	renamed := join("n1", "vm9", "once")
	m.refused(renamed, isExists, `member as "vm1"`)
	again.Node.Address = "10.1.1.1"
	m.ok(again)
	if n := m.db.Read().Node(nil, "n1"); n.Address != "10.1.1.1" || n.State != alive || n.LeaseEpoch != 3 || n.ModifyIndex != m.index {
		t.Errorf("%v", n)
	}
}

func TestRemovedHostDoesNotGetBackInByItsToken(t *testing.T) {
	m := newMesh(t)
	m.ok(&command.PutToken{Token: &apiv1.Token{Id: "once", SecretHash: sum(1), ExpiresUnix: now + 10}})
	m.ok(join("n1", "vm1", "once"))
	m.ok(&command.RemoveNode{NodeId: "n1"})
	m.refused(join("n1", "vm1", "once"), isToken, "used")
}

func TestHostNameTaken(t *testing.T) {
	m := newMesh(t)
	m.ok(join("n1", "vm1", "any"))
	m.ok(lease("n1", 1))
	m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{instance("web", "web")}})
	m.refused(join("n2", "vm1", "any"), isExists, "another name")
	stranger := join("n2", "vm2", "any")
	stranger.Node.Id = "n1"
	m.refused(stranger, isExists, "belongs to")

	// Installed anew, it has another key, and the old one is alive no more.
	m.ok(&command.EndLease{NodeId: "n1", Epoch: 1, State: lost})
	m.ok(join("n2", "vm1", "any"))
	m.touched("web")
	txn := m.db.Read()
	if txn.Node(nil, "n1") != nil || txn.NodeByName(nil, "vm1").Id != "n2" || len(txn.Instances(nil, "web")) != 0 {
		t.Errorf("%v %v", txn.Nodes(nil), txn.Instances(nil, "web"))
	}
	if names, _ := txn.RemovedNodes(nil, 0); names != nil {
		t.Errorf("%q count as removed", names)
	}
}

func TestLease(t *testing.T) {
	m := newMesh(t)
	m.ok(join("n1", "vm1", "any"))
	m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{instance("web", "web")}})
	f := func(state apiv1.NodeState, epoch uint64, server string) {
		t.Helper()
		n := m.db.Read().Node(nil, "n1")
		if n.State != state || n.LeaseEpoch != epoch || n.LeaseServer != server {
			t.Fatalf("%v", n)
		}
	}
	f(unseen, 0, "")
	m.refused(lease("n9", 1), isNotFound, "n9")
	m.refused(lease("n1", 0), isStale, "epoch 0")
	nowhere := lease("n1", 1)
	nowhere.ServerId = "s9"
	m.refused(nowhere, isNotFound, "s9")

	m.ok(lease("n1", 1))
	m.touched("web")
	f(alive, 1, "s1")
	m.refused(lease("n1", 1), isStale, "epoch 1")

	m.ok(lease("n1", 5)) // another stream, nothing that others see
	m.touched()
	f(alive, 5, "s1")
	if got := m.db.Read().NodesSince(nil, m.index-1); got != nil {
		t.Errorf("a lease that moved is a change: %v", got)
	}

	m.unchanged(&command.EndLease{NodeId: "n1", Epoch: 1, State: lost}) // the older stream
	m.refused(&command.EndLease{NodeId: "n1", Epoch: 6, State: lost}, isInvalid, "epoch 6")
	m.refused(&command.EndLease{NodeId: "n1", Epoch: 5, State: alive}, isInvalid, "lost or left")
	m.refused(&command.EndLease{NodeId: "n9", Epoch: 5, State: lost}, isNotFound, "n9")

	m.ok(&command.EndLease{NodeId: "n1", Epoch: 5, State: left})
	m.touched("web")
	f(left, 5, "")
	m.unchanged(&command.EndLease{NodeId: "n1", Epoch: 5, State: lost}) // its stream closes
	f(left, 5, "")
	m.ok(lease("n1", 6))
	f(alive, 6, "s1")
}

func TestLeaseMovesAddress(t *testing.T) {
	m := newMesh(t)
	m.ok(join("n1", "vm1", "any"))
	m.ok(lease("n1", 1))
	m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{instance("web", "web")}})
	moved := lease("n1", 2)
	moved.Address, moved.InboundPort = "10.7.7.7", 0
	m.ok(moved)
	m.touched("web")
	if n := m.db.Read().Node(nil, "n1"); n.Address != "10.7.7.7" || n.InboundPort != 7443 || n.ModifyIndex != m.index {
		t.Errorf("%v", n)
	}
	updated := lease("n1", 3)
	updated.Address, updated.Version = "10.7.7.7", "1.1.0"
	m.ok(updated)
	m.touched()
	if n := m.db.Read().Node(nil, "n1"); n.ModifyIndex != m.index {
		t.Errorf("%v", n)
	}
	bad := lease("n1", 4)
	bad.Address = "nowhere"
	m.refused(bad, isInvalid, "nowhere")
}

func TestRemoveNode(t *testing.T) {
	m := newMesh(t)
	m.ok(join("n1", "vm1", "any"))
	m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{instance("web", "web"), instance("web2", "web"), instance("db", "db")}})
	before := m.index
	m.ok(&command.RemoveNode{NodeId: "n1"})
	m.touched("db", "web")
	f := func(since uint64, want ...string) {
		t.Helper()
		names, complete := m.db.Read().RemovedNodes(nil, since)
		m.same(want, names)
		if !complete {
			t.Errorf("removals since %d are not known", since)
		}
	}
	f(before, "vm1")
	f(m.index)
	m.refused(&command.RemoveNode{NodeId: "n1"}, isNotFound, "join anew")
	m.ok(join("n2", "vm1", "any"))
	f(before)
}

func TestRemovalsAreForgotten(t *testing.T) {
	m := newMesh(t)
	start := m.index
	records := m.rows()
	for range remembered {
		m.index++
		records = append(records, &Record{Row: &Record_RemovedNode{&RemovedNode{Name: fmt.Sprintf("vm%d", m.index), Index: m.index}}})
	}
	if err := m.db.Restore(bytes.NewReader(forge(records...))); err != nil {
		t.Fatal(err)
	}
	f := func(since uint64, n int, complete bool) {
		t.Helper()
		names, got := m.db.Read().RemovedNodes(nil, since)
		if len(names) != n || got != complete {
			t.Errorf("since %d: %d names, complete: %v", since, len(names), got)
		}
	}
	f(start, remembered, true)
	for _, name := range []string{"a", "b"} {
		m.ok(join("n1", name, "any"))
		m.ok(&command.RemoveNode{NodeId: "n1"})
	}
	f(start, remembered, false)
	f(start+1, remembered, false)
	f(start+2, remembered, true)
	f(start+3, remembered-1, true)
	f(m.index, 0, true)
}

// A token's right to the whole catalogue goes over to the host, whatever the
// host says of itself.
func TestWholeCatalogue(t *testing.T) {
	m := newMesh(t)
	m.ok(&command.PutToken{Token: &apiv1.Token{Id: "whole", SecretHash: sum(1), ExpiresUnix: now + 10, Reusable: true, WholeCatalogue: true}})
	whole := func() bool { return m.db.Read().Node(nil, "n1").WholeCatalogue }
	forged := join("n1", "vm1", "any")
	forged.Node.WholeCatalogue = true
	m.ok(forged)
	if whole() {
		t.Error("the host gave itself the right")
	}
	m.ok(join("n1", "vm1", "whole"))
	if !whole() {
		t.Error("the token did not give the right")
	}
}

// When a host's state changed is by the clock of who proposed it, and no
// business of the other hosts.
func TestStateTime(t *testing.T) {
	m := newMesh(t)
	at := func(want int64, msg proto.Message) {
		t.Helper()
		m.ok(msg)
		if got := m.db.Read().Node(nil, "n1").StateUnix; got != want {
			t.Fatalf("after %v: %d, want %d", msg, got, want)
		}
	}
	take := func(epoch uint64, time int64) *command.TakeLease {
		c := lease("n1", epoch)
		c.TimeUnix = time
		return c
	}
	at(now, join("n1", "vm1", "any"))
	at(now+1, take(1, now+1))
	at(now+1, take(2, now+2)) // it was alive already
	at(now+3, &command.EndLease{NodeId: "n1", Epoch: 2, State: lost, TimeUnix: now + 3})
	at(now+3, join("n1", "vm1", "any"))
	at(now+5, take(3, now+5))
	at(now+6, &command.EndLease{NodeId: "n1", Epoch: 3, State: left, TimeUnix: now + 6})
}
