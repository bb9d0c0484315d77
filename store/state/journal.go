package state

import (
	"iter"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// journalled is how many changes the journal has at most. 10,000 instances may be
// lost at once, when their hosts are cut off, without agents that are a little
// behind having to start afresh.
const journalled = 16384

// A change is one to an instance, or to what callers see of its node: the journal
// has them in the order in which they came, so that an agent is told only of
// those. It belongs to this server, not to the replicated state: it begins anew
// with each restored snapshot.
type change struct {
	service, nodeID, id string
	index               uint64
}

func (c *change) key() []byte { return append(changeKey(c.service, c.index), text(c.nodeID, c.id)...) }

// An InstanceKey tells one instance from all others of its service.
type InstanceKey struct{ NodeID, ID string }

// InstancesSince tells what has become of a service's instances after index v:
// those that are new or have changed, or whose node has in a way that callers
// see; and the keys of those that are gone, of which v may have known nothing.
// complete is false when v is too long ago for all to be remembered: whoever has
// the instances of that time must take Instances anew. A watch wakes for any
// change to the service.
func (t *Txn) InstancesSince(ws *WatchSet, service string, v uint64) (changed []*apiv1.Instance, removed []InstanceKey, complete bool) {
	t.Service(ws, service)
	if v < t.mark(nil, journalMark) {
		return nil, nil, false
	}
	for key := range t.changesSince(service, v) {
		if i := t.instance(key.NodeID, key.ID); i.GetService() == service {
			changed = append(changed, i)
		} else {
			removed = append(removed, key)
		}
	}
	return changed, removed, true
}

// changesSince gives each instance once.
func (t *Txn) changesSince(service string, v uint64) iter.Seq[InstanceKey] {
	return func(yield func(InstanceKey) bool) {
		it, err := t.txn.LowerBound(journalTable, byID, changeKey(service, v+1))
		mustDo(err)
		seen := map[InstanceKey]bool{}
		for row := it.Next(); row != nil && row.(*change).service == service; row = it.Next() {
			key := InstanceKey{row.(*change).nodeID, row.(*change).id}
			if !seen[key] && !yield(key) {
				return
			}
			seen[key] = true
		}
	}
}

func changeKey(service string, index uint64) []byte {
	return append(text(service), number(index)...)
}

// touchInstance notes that an instance of the service has changed.
func (w *writer) touchInstance(i *apiv1.Instance) {
	w.touch(i.Service)
	w.changes = append(w.changes, &change{service: i.Service, nodeID: i.NodeId, id: i.Id, index: w.index})
}

// noteChanges puts what was touched into the journal, once each, and forgets the
// oldest changes when there are too many.
func (w *writer) noteChanges() {
	seen := map[change]bool{}
	for _, c := range w.changes {
		if !seen[*c] {
			seen[*c] = true
			w.put(journalTable, c)
		}
	}
	if len(seen) > 0 {
		w.trimJournal(w.mark(nil, lengthMark) + uint64(len(seen)))
	}
}

func (w *writer) trimJournal(length uint64) {
	var oldest []*change
	it, err := w.txn.Get(journalTable, byModified)
	mustDo(err)
	for ; length > w.limits.journal; length-- {
		oldest = append(oldest, it.Next().(*change))
	}
	for _, c := range oldest {
		w.remove(journalTable, c)
		w.put(markTable, mark{journalMark, c.index})
	}
	w.put(markTable, mark{lengthMark, length})
}
