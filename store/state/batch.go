package state

import (
	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/store/command"
)

// An Entry is one command of the log.
type Entry struct {
	Index uint64
	Msg   proto.Message // nil for one that could not be decoded
}

// ApplyAll carries out entries one after the other, as Apply does, and shows them
// to readers and watchers all at once: what they change in common is written, and
// those who wait for it are woken, a single time.
func (db *DB) ApplyAll(entries []Entry) []*command.Result {
	results := make([]*command.Result, 0, len(entries))
	for len(entries) > 0 {
		together := db.applyTogether(entries)
		if len(together) == 0 { // the first is refused
			together = []*command.Result{db.Apply(entries[0].Index, entries[0].Msg)}
		}
		results = append(results, together...)
		entries = entries[len(together):]
	}
	return results
}

// applyTogether carries out entries in one transaction, up to the first that the
// state refuses.
func (db *DB) applyTogether(entries []Entry) []*command.Result {
	results := make([]*command.Result, len(entries))
	w := db.write(0)
	for i, e := range entries {
		w.index, w.result = e.Index, &command.Result{Index: e.Index}
		if err := w.do(e.Msg); err != nil {
			// What the refused one has begun is in the same transaction.
			w.txn.Abort()
			if i == 0 {
				return nil
			}
			return db.applyTogether(entries[:i])
		}
		results[i] = w.result
	}
	w.commit()
	return results
}
