package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/meshd/meshd/internal/atomicfile"
	"github.com/meshd/meshd/store/raftlog"
)

// snapshotStore is Raft's on files, and
//   - remembers which snapshot was opened last: after Raft's start, that is the
//     one it has restored;
//   - leaves no room taken by snapshots that were not finished, as Raft does when
//     the disk is full or the machine loses power;
//   - makes the files of a snapshot durable in their directory before that gets
//     its name.
type snapshotStore struct {
	raft.SnapshotStore
	dir    string
	opened atomic.Pointer[raft.SnapshotMeta]
}

const unfinished = ".tmp" // what Raft adds to the name

func newSnapshotStore(dir string, files *raft.FileSnapshotStore) (*snapshotStore, error) {
	s := &snapshotStore{SnapshotStore: files, dir: filepath.Join(dir, snapshotDir)}
	left, err := filepath.Glob(filepath.Join(s.dir, "*"+unfinished))
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		return nil, fmt.Errorf("clearing away unfinished snapshots: %w", err)
	}
	return s, nil
}

func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := s.SnapshotStore.Open(id)
	if err == nil {
		s.opened.Store(meta)
	}
	return meta, r, err
}

// Create refuses to begin what there is no room for, by the newest snapshot's
// size.
func (s *snapshotStore) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, t raft.Transport) (raft.SnapshotSink, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	if len(all) > 0 {
		if err := checkSpace(s.dir, all[0].Size); err != nil {
			return nil, err
		}
	}
	inner, err := s.SnapshotStore.Create(v, index, term, c, at, t)
	if err != nil {
		return nil, err
	}
	return &snapshotSink{inner, filepath.Join(s.dir, inner.ID()+unfinished)}, nil
}

// restored is the index up to which a snapshot has been restored.
func (s *snapshotStore) restored() uint64 {
	if meta := s.opened.Load(); meta != nil {
		return meta.Index
	}
	return 0
}

// explain adds the remedy when Raft did not start because no snapshot is sound.
func (s *snapshotStore) explain(err error, m *machine) error {
	all, listErr := s.List()
	if listErr != nil || len(all) == 0 || m.db.Read().Index(nil) > 0 {
		return err
	}
	return fmt.Errorf("no snapshot in %s can be read (%w). %s", s.dir, err, raftlog.Remedy)
}

type snapshotSink struct {
	raft.SnapshotSink
	dir string
}

func (s *snapshotSink) Close() error {
	if _, err := os.Stat(s.dir); err == nil {
		if err := atomicfile.Sync(s.dir); err != nil {
			return errors.Join(err, s.Cancel())
		}
	}
	if err := s.SnapshotSink.Close(); err != nil {
		return errors.Join(err, os.RemoveAll(s.dir))
	}
	return nil
}

func (s *snapshotSink) Cancel() error {
	return errors.Join(s.SnapshotSink.Cancel(), os.RemoveAll(s.dir))
}
