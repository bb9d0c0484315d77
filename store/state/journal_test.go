package state

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// since tells in words what has become of a service since v.
func (m *testMesh) since(service string, v uint64) string {
	changed, removed, complete := m.db.Read().InstancesSince(nil, service, v)
	if !complete {
		return "too long ago"
	}
	var words []string
	for _, i := range changed {
		words = append(words, i.NodeId+"/"+i.Id)
	}
	for _, k := range removed {
		words = append(words, "without "+k.NodeID+"/"+k.ID)
	}
	return strings.Join(words, ", ")
}

func TestInstancesSince(t *testing.T) {
	m := newMesh(t)
	f := func(service string, v uint64, want string) {
		t.Helper()
		if got := m.since(service, v); got != want {
			t.Errorf("%s since %d: %q, want %q", service, v, got, want)
		}
	}
	m.ok(join("n1", "vm1", "any"))
	m.ok(join("n2", "vm2", "any"))
	m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{instance("a", "web"), instance("b", "web"), instance("db", "db")}})
	m.ok(&command.SetInstances{NodeId: "n2", Put: []*apiv1.Instance{instance("a", "web")}})
	start := m.index
	f("web", 0, "n1/a, n1/b, n2/a")
	f("we", 0, "")
	f("web", start, "")
	f("db", start, "")

	changed := instance("b", "web")
	changed.Port = 81
	m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{changed, instance("a", "web")}})
	f("web", start, "n1/b")
	m.ok(&command.SetInstances{NodeId: "n2", Remove: []string{"a"}})
	f("web", start, "n1/b, without n2/a")
	f("web", start+1, "without n2/a")
	m.ok(lease("n1", 1)) // callers see that it is alive
	f("web", start+2, "n1/a, n1/b")
	f("db", start+2, "n1/db")
	m.ok(lease("n1", 2)) // and do not see where
	f("web", m.index-1, "")
	m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{instance("a", "db")}})
	f("web", m.index-1, "without n1/a")
	f("db", m.index-1, "n1/a")
	m.ok(&command.RemoveNode{NodeId: "n1"})
	f("db", m.index-1, "without n1/a, without n1/db")
	m.ok(&command.SetInstances{NodeId: "n2", Put: []*apiv1.Instance{instance("a", "web")}})
	f("web", start, "n2/a, without n1/b, without n1/a")
}

// A restored snapshot says nothing of what was before it.
func TestJournalBeginsWithTheSnapshot(t *testing.T) {
	m := newMesh(t)
	m.ok(join("n1", "vm1", "any"))
	m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{instance("a", "web")}})
	if err := m.db.Restore(bytes.NewReader(snapshot(t, m.db))); err != nil {
		t.Fatal(err)
	}
	from := m.index
	m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{instance("b", "web")}})
	m.same("too long ago", m.since("web", from-1))
	m.same("n1/b", m.since("web", from))
}

func TestJournalIsBounded(t *testing.T) {
	m := newMesh(t)
	const bound, step = 64, 16
	m.db.limits.journal = bound
	for n := range bound/step + 1 {
		id := fmt.Sprintf("n%c", 'a'+n)
		m.ok(join(id, "vm"+id, "any"))
		c := &command.SetInstances{NodeId: id}
		for i := range step {
			c.Put = append(c.Put, instance(fmt.Sprint("i", i), "web"))
		}
		m.ok(c)
	}
	filled := m.index
	forgotten := m.db.Read().mark(nil, journalMark)
	m.same("too long ago", m.since("web", forgotten-1))
	changed, removed, complete := m.db.Read().InstancesSince(nil, "web", forgotten)
	if len(changed) != bound || removed != nil || !complete {
		t.Fatalf("%d changed, %d removed, complete: %v", len(changed), len(removed), complete)
	}
	// Of an instance that changes again and again there is one change to tell.
	for port := range uint32(10) {
		i := instance("i0", "web")
		i.Port = port + 1
		m.ok(&command.SetInstances{NodeId: "na", Put: []*apiv1.Instance{i}})
	}
	m.same("na/i0", m.since("web", filled))
	if got := len(m.rowsOf(journalTable)); got != bound {
		t.Errorf("the journal has %d changes", got)
	}
}

func (m *testMesh) rowsOf(table string) []any {
	return all[any](m.db.Read(), nil, table)
}
