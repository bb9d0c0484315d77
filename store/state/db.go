// Package state is the replicated state of a mesh as tables: commands in, state
// out. It has no clock, no randomness and does no IO, so that the same log
// gives the same state on every server.
package state

import (
	"errors"
	"sync/atomic"

	"github.com/hashicorp/go-memdb"
	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/store/command"
)

// A DB may be read by any number of goroutines. Apply and Restore are for one
// at a time.
type DB struct {
	current atomic.Pointer[tables]
	places  uint32 // for services in the catalogue; the same on all servers, and fewer in tests
}

// tables are what Apply changes and Restore replaces.
type tables struct {
	mem      *memdb.MemDB
	replaced chan struct{}
	alike    likeness
}

// New makes an empty state.
func New() *DB {
	db := &DB{places: maxServices}
	db.current.Store(newState(newTables()))
	return db
}

func newState(mem *memdb.MemDB) *tables {
	return &tables{mem: mem, replaced: make(chan struct{}), alike: likeness{}}
}

func (t *tables) read() *Txn { return &Txn{txn: t.mem.Txn(false), replaced: t.replaced} }

// Read gives the state as it is now.
func (db *DB) Read() *Txn { return db.current.Load().read() }

// Apply carries out the log entry with that index, all of it or, when it
// refuses, nothing but the record of an audited one. A nil msg stands for an
// entry that could not be decoded. The message is not kept and not modified.
func (db *DB) Apply(index uint64, msg proto.Message) *command.Result {
	w := db.write(index)
	if err := w.do(msg); err != nil {
		w.txn.Abort()
		w = db.write(index)
		w.result = refused(index, err)
		w.recordRefused(msg, w.result.Refusal)
	}
	w.commit()
	return w.result
}

func refused(index uint64, err error) *command.Result {
	var r *refusal
	if !errors.As(err, &r) {
		r = &refusal{kind: command.Refusal_REFUSAL_INVALID, message: err.Error()}
	}
	return &command.Result{Index: index, Refusal: r.kind, Message: r.message, Problems: r.problems}
}

func (db *DB) write(index uint64) *writer {
	t := db.current.Load()
	return &writer{
		Txn:    Txn{txn: t.mem.Txn(true)},
		alike:  t.alike,
		index:  index,
		places: db.places,
		result: &command.Result{Index: index},
	}
}
