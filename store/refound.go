package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/meshd/meshd/store/raftlog"
	"github.com/meshd/meshd/store/state"
)

// refoundAhead is how far the index goes on from that of the snapshot. Agents and
// operators hold versions from after it, and none of them may come a second time
// for something else.
const refoundAhead = 1 << 32

// RefoundIndex is the index of a mesh that is founded anew from a snapshot.
func RefoundIndex(info *SnapshotInfo) uint64 { return info.Index + refoundAhead }

// Refound fills the empty directory of a server, that is Config.Dir, with a saved
// state, for a mesh all of whose servers are lost. That server is its only member
// when it is opened; address is as in Config.
func Refound(dir, address string, info *SnapshotInfo, snapshot *state.Snapshot, r state.Refounding) error {
	if err := refound(dir, address, info, snapshot, r); err != nil {
		return fmt.Errorf("founding the mesh anew in %s: %w", dir, err)
	}
	return nil
}

func refound(dir, address string, info *SnapshotInfo, snapshot *state.Snapshot, r state.Refounding) error {
	if _, err := os.Stat(filepath.Join(dir, logFile)); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(errors.New("there is a Raft log already"), err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	term := info.Term + 1
	log, err := raftlog.Open(raftlog.Options{Path: filepath.Join(dir, logFile)})
	if err != nil {
		return err
	}
	if err := errors.Join(log.SetUint64([]byte(termKey), term), log.Close()); err != nil {
		return err
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, retainSnapshots, newRaftLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	snapshots, err := newSnapshotStore(dir, files)
	if err != nil {
		return err
	}
	members := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(r.Server.Id), Address: raft.ServerAddress(address)}}}
	_, encoder := raft.NewInmemTransport("") // of members' addresses, in the form of old versions
	sink, err := snapshots.Create(raft.SnapshotVersionMax, r.Index, term, members, r.Index, encoder)
	if err != nil {
		return err
	}
	if err := snapshot.Refound(sink, r); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}
