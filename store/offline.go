package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meshd/meshd/store/raftlog"
	"github.com/meshd/meshd/store/state"
)

// Contents are what the directory of a stopped server holds.
type Contents struct {
	ClusterID, ClusterName string
	// Recovery counts the recoveries from a lost majority before.
	Recovery uint32
	// Term of the newest election, LastIndex and LastTerm of the newest entry and
	// LastTime when that was appended, zero when it is in a snapshot.
	Term, LastIndex, LastTerm uint64
	LastTime                  time.Time
	// Committed is up to where the server knew a majority to have the log. What
	// comes after may or may not have been acknowledged.
	Committed uint64
	// Applied is the index of the newest change among all entries.
	Applied uint64
	// Snapshot is the index of the newest sound snapshot, 0 when there is none.
	Snapshot uint64
	Members  []Member
	// Size of log and snapshots in bytes.
	Size int64
}

// Inspect reads the directory of a stopped server, that is Config.Dir. It
// refuses one that a server has open, and one that is damaged.
func Inspect(dir string) (Contents, error) {
	d, err := openOffline(dir)
	if err != nil {
		return Contents{}, fmt.Errorf("looking into %s: %w", dir, err)
	}
	return d.contents, d.close()
}

// offline is the directory of a stopped server, held so that none can start.
type offline struct {
	dir       string
	log       *raftlog.Log
	snapshots *raft.FileSnapshotStore
	machine   *machine
	contents  Contents
	last      raft.Log // its newest entry
}

func openOffline(dir string) (*offline, error) {
	path := filepath.Join(dir, logFile)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no Raft log: no server has kept its state here")
	}
	log, err := raftlog.Open(raftlog.Options{Path: path})
	if err != nil {
		return nil, err
	}
	d := &offline{dir: dir, log: log, machine: &machine{db: state.New(), logger: slog.New(slog.DiscardHandler)}}
	if err := d.read(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return d, nil
}

func (d *offline) close() error { return d.log.Close() }

func (d *offline) read() (err error) {
	c := &d.contents
	if d.snapshots, err = raft.NewFileSnapshotStoreWithLogger(d.dir, retainSnapshots, newRaftLogger(d.machine.logger)); err != nil {
		return err
	}
	if err := d.restore(); err != nil {
		return err
	}
	if err := d.replay(); err != nil {
		return err
	}
	if c.Term, err = d.log.GetUint64([]byte(termKey)); err != nil && err.Error() != "not found" {
		return err
	}
	if c.Committed, err = d.log.GetCommitIndex(); err != nil {
		return err
	}
	c.Committed = max(c.Committed, c.Snapshot)
	txn := d.machine.db.Read()
	c.Applied = txn.Index(nil)
	cluster := txn.Cluster(nil)
	c.ClusterID, c.ClusterName, c.Recovery = cluster.GetId(), cluster.GetName(), cluster.GetRecovery()
	c.Size, err = sizeOf(filepath.Join(d.dir, logFile), filepath.Join(d.dir, snapshotDir))
	return err
}

// restore takes the newest snapshot that is sound.
func (d *offline) restore() error {
	all, err := d.snapshots.List()
	if err != nil {
		return err
	}
	var failures []error
	for _, meta := range all {
		_, source, err := d.snapshots.Open(meta.ID)
		if err == nil {
			err = d.machine.Restore(source)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("snapshot %s: %w", meta.ID, err))
			continue
		}
		d.contents.Snapshot, d.contents.LastIndex, d.contents.LastTerm = meta.Index, meta.Index, meta.Term
		d.contents.Members = membersOf(meta.Configuration)
		return nil
	}
	return errors.Join(failures...)
}

// replay applies all entries, those too that are not known to be committed:
// without the majority nobody can tell, and an acknowledged one must not be lost.
func (d *offline) replay() error {
	last, err := d.log.LastIndex()
	if err != nil {
		return err
	}
	for i := d.contents.Snapshot + 1; i <= last; i++ {
		var entry raft.Log
		if err := d.log.GetLog(i, &entry); err != nil {
			return missing(d.log, i, err)
		}
		switch entry.Type {
		case raft.LogCommand:
			d.machine.Apply(&entry)
		case raft.LogConfiguration:
			d.contents.Members = membersOf(raft.DecodeConfiguration(entry.Data))
		}
		d.contents.LastIndex, d.contents.LastTerm, d.contents.LastTime = i, entry.Term, entry.AppendedAt
		d.last = entry
	}
	return nil
}

// missing makes of an entry that is not there the damage that it is.
func missing(log *raftlog.Log, index uint64, err error) error {
	if errors.Is(err, raft.ErrLogNotFound) {
		return &raftlog.CorruptError{Path: log.Path(), What: fmt.Sprintf("log entry %d", index), Reason: "it is missing, and no snapshot has it"}
	}
	return err
}

func membersOf(c raft.Configuration) (members []Member) {
	for _, m := range c.Servers {
		members = append(members, Member{ID: string(m.ID), Address: string(m.Address), Voter: m.Suffrage == raft.Voter})
	}
	return members
}

// sizeOf is what files and directories have in bytes.
func sizeOf(paths ...string) (size int64, err error) {
	for _, path := range paths {
		err = errors.Join(err, filepath.Walk(path, func(_ string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				size += info.Size()
			}
			return err
		}))
	}
	return size, err
}
