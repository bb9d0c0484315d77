package state

import (
	apiv1 "github.com/meshd/meshd/api/v1"
)

// journalled is how many instances the journal has at most. It takes 10,000
// that are lost at once, when their hosts are cut off, without agents that are a
// little behind having to start afresh.
const journalled = 16384

// A change is the last one to an instance, or to what callers see of its node:
// the journal has them in the order in which they came, so that an agent is told
// only of those. It belongs to this server, not to the replicated state: it
// begins anew with each restored snapshot.
type change struct {
	service, nodeID, id string
	index               uint64
}

// An InstanceKey tells one instance from all others of its service.
type InstanceKey struct{ NodeID, ID string }

// InstancesSince tells what has become of a service's instances after index v:
// those that are new or have changed, or whose node has in a way that callers
// see, in the order of their changes; and the keys of those that are gone, of
// which v may have known nothing. complete is false when v is too long ago for
// all to be remembered: whoever has the instances of that time must take
// Instances anew. A watch wakes for any change to the service.
func (t *Txn) InstancesSince(ws *WatchSet, service string, v uint64) (changed []*apiv1.Instance, removed []InstanceKey, complete bool) {
	t.Service(ws, service)
	if v < t.mark(nil, journalMark) {
		return nil, nil, false
	}
	it, err := t.txn.LowerBound(journalTable, byService, changeKey(service, v+1))
	mustDo(err)
	for row := it.Next(); row != nil; row = it.Next() {
		c := row.(*change)
		if c.service != service {
			break
		}
		if i := t.instance(c.nodeID, c.id); i.GetService() == service {
			changed = append(changed, i)
		} else {
			removed = append(removed, InstanceKey{c.nodeID, c.id})
		}
	}
	return changed, removed, true
}

func changeKey(service string, index uint64) []byte {
	return append(text(service), number(index)...)
}

// touchInstance notes that an instance of the service has changed.
func (w *writer) touchInstance(i *apiv1.Instance) {
	w.touch(i.Service)
	key := text(i.Service, i.NodeId, i.Id)
	if first[*change](&w.Txn, nil, journalTable, byID, key) == nil {
		w.countJournal(1)
	}
	w.put(journalTable, &change{service: i.Service, nodeID: i.NodeId, id: i.Id, index: w.index})
}

// trimJournal forgets the oldest changes when there are too many.
func (w *writer) trimJournal() {
	for w.mark(nil, lengthMark) > w.journal {
		oldest, err := w.txn.First(journalTable, byModified)
		mustDo(err)
		w.remove(journalTable, oldest)
		w.countJournal(-1)
		w.put(markTable, mark{journalMark, oldest.(*change).index})
	}
}

func (w *writer) countJournal(n int) {
	w.put(markTable, mark{lengthMark, w.mark(nil, lengthMark) + uint64(n)})
}
