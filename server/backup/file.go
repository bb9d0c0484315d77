// Package backup writes snapshots of the mesh's state to files, and makes them by
// the clock while its server leads.
package backup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/meshd/meshd/internal/atomicfile"
	"github.com/meshd/meshd/store"
)

// Write puts a snapshot into the file at path, which only its owner may read. What
// save has written is read again from the file and checked before it takes the
// place of what was there.
func Write(path string, save func(io.Writer) error) (*store.SnapshotInfo, error) {
	info, err := write(path, save)
	if err != nil {
		return nil, fmt.Errorf("writing a snapshot to %s: %w", path, err)
	}
	return info, nil
}

func write(path string, save func(io.Writer) error) (info *store.SnapshotInfo, err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, unfinished(filepath.Base(path)))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	info, err = fill(f, save)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return nil, err
	}
	return info, atomicfile.Sync(dir)
}

// unfinished is the pattern of the names of files that are being written.
func unfinished(name string) string { return "." + name + ".*" }

func fill(f *os.File, save func(io.Writer) error) (*store.SnapshotInfo, error) {
	if err := save(f); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return store.InspectSnapshot(f)
}
