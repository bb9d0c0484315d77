package state

import (
	"fmt"
	"io"
)

// Load reads and checks all of a snapshot and puts it in nobody's place.
func Load(r io.Reader) (*Snapshot, error) {
	saved, err := readSnapshot(r)
	if err != nil {
		return nil, fmt.Errorf("reading a snapshot of the state: %w", err)
	}
	return &Snapshot{saved.read()}, nil
}

// Read gives the state that the snapshot holds.
func (s *Snapshot) Read() *Txn { return s.txn }

// Rows counts the snapshot's rows by kind, such as "node".
func (s *Snapshot) Rows() map[string]int {
	rows := map[string]int{}
	s.records(func(r *Record) {
		m := r.ProtoReflect()
		if field := m.WhichOneof(m.Descriptor().Oneofs().ByName("row")); field != nil {
			rows[string(field.Name())]++
		}
	})
	return rows
}
