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
	_ raft.BatchingFSM        = (*machine)(nil)
	_ raft.ConfigurationStore = (*machine)(nil)
)

// Apply gives a *command.Result.
func (m *machine) Apply(entry *raft.Log) any { return m.ApplyBatch([]*raft.Log{entry})[0] }

// ApplyBatch gives a *command.Result for each command. Entries that replayingLog
// has applied come a second time from Raft, and nobody waits for their results.
func (m *machine) ApplyBatch(entries []*raft.Log) []any {
	answers := make([]any, len(entries))
	applied := m.db.Read().Index(nil)
	var commands []state.Entry
	var at []int // of each command among entries
	for i, entry := range entries {
		switch {
		case entry.Type == raft.LogConfiguration:
			m.StoreConfiguration(entry.Index, raft.DecodeConfiguration(entry.Data))
		case entry.Index > applied:
			msg, err := command.Decode(entry.Data)
			if err != nil { // the state refuses it
				m.logger.Error("a log entry is not understood and was not applied", "index", entry.Index, "error", err)
				answers[i] = err
			}
			commands, at = append(commands, state.Entry{Index: entry.Index, Msg: msg}), append(at, i)
		}
	}
	for i, result := range m.db.ApplyAll(commands) {
		if err, ok := answers[at[i]].(error); ok {
			result.Message = err.Error()
		}
		answers[at[i]] = result
	}
	return answers
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
