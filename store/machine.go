package store

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/raft"

	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// machine is the state as Raft sees it: entries in, snapshots in and out.
type machine struct {
	db     *state.DB
	logger *slog.Logger
}

var (
	_ raft.FSM                = (*machine)(nil)
	_ raft.ConfigurationStore = (*machine)(nil)
)

// Apply gives a *command.Result. Entries that replayingLog has applied come a
// second time from Raft, and nobody waits for their results.
func (m *machine) Apply(entry *raft.Log) any {
	if entry.Index <= m.db.Read().Index(nil) {
		return nil
	}
	msg, err := command.Decode(entry.Data)
	if err != nil {
		m.logger.Error("a log entry is not understood and was not applied", "index", entry.Index, "error", err)
		msg = nil
	}
	result := m.db.Apply(entry.Index, msg)
	if err != nil {
		result.Message = err.Error()
	}
	return result
}

// StoreConfiguration logs who the members are. That it is there lets Raft take
// a snapshot whose last entry is a change of members.
func (m *machine) StoreConfiguration(index uint64, c raft.Configuration) {
	m.logger.Info("members of the control plane", "index", index, "servers", fmt.Sprint(c.Servers))
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	return snapshot{m.db.Snapshot()}, nil
}

func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	return m.db.Restore(r)
}

type snapshot struct{ *state.Snapshot }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := s.WriteTo(sink); err != nil {
		return err
	}
	return sink.Close()
}

func (s snapshot) Release() {}
