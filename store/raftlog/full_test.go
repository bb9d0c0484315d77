package raftlog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// smallDisk is a file system of so many bytes. Only root may have one.
func smallDisk(t *testing.T, bytes string) string {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("meshd-test", dir, "tmpfs", 0, "size="+bytes); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// On a disk that is truly full entries are refused and votes are not, nothing of
// what was stored is lost, and entries are taken again when there is room.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t, "24m")
	l, err := Open(Options{Path: filepath.Join(dir, "raft.db")})
	must(t, err)
	defer func() { l.Close() }()
	must(t, l.StoreLogs(large(1, 100)))
	filler := filepath.Join(dir, "filler")
	fill(t, filler)

	last := uint64(100)
	for err == nil {
		if err = l.StoreLogs(large(last+1, last+10)); err == nil {
			last += 10
		}
	}
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), l.Path()) || !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("appending to a full disk: %v", err)
	}
	if l.Err() != nil {
		t.Fatalf("a full disk counts as a failure: %v", l.Err())
	}
	for term := uint64(1); term < 50; term++ {
		must(t, l.SetUint64([]byte("term"), term))
		must(t, l.Set([]byte("vote"), []byte("s1")))
	}
	if since, err := l.Full(); err == nil || time.Since(since) > time.Minute {
		t.Errorf("full since %v: %v", since, err)
	}
	checkLarge(t, l, 1, last)

	must(t, os.Remove(filler))
	l.space.mu.Lock()
	l.space.probed = time.Time{} // as if a second had passed
	l.space.mu.Unlock()
	if _, err := l.Full(); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	must(t, l.StoreLogs(large(last+1, last+10)))
	l = reopen(t, l)
	checkLarge(t, l, 1, last+10)
	if term, err := l.GetUint64([]byte("term")); err != nil || term != 49 {
		t.Errorf("term %d, %v", term, err)
	}
}

// fill takes all the room there is.
func fill(t *testing.T, path string) {
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for size := 1 << 20; size >= 1<<12; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// A log that cannot be written is not opened, and the error names it.
func TestReadOnlyFileSystem(t *testing.T) {
	dir := smallDisk(t, "8m")
	path := filepath.Join(dir, "raft.db")
	must(t, open(t, path).Close())
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if _, err := Open(Options{Path: path}); err == nil || !strings.Contains(err.Error(), path) || !errors.Is(err, unix.EROFS) {
		t.Fatalf("%v", err)
	}
}

// The same without root: a write is refused for want of room in the middle of a
// transaction, and what was there before stays.
func TestFullDiskInATransaction(t *testing.T) {
	room := 1 << 30
	l, err := Open(Options{Path: filepath.Join(t.TempDir(), "raft.db"), NoSync: true, opened: limited(&room)})
	must(t, err)
	defer func() { l.Close() }()
	must(t, l.StoreLogs(large(1, 50)))
	for pages := range 8 {
		room = pages
		err := l.StoreLogs(large(51, 60))
		if !errors.Is(err, ErrFull) {
			t.Fatalf("with room for %d pages: %v", pages, err)
		}
		room = 1 << 30
		l.space.mu.Lock()
		l.space.full = nil
		l.space.mu.Unlock()
		checkLarge(t, l, 1, 50)
	}
	must(t, l.StoreLogs([]*raft.Log{{Index: 51, Data: []byte("51 ")}}))
	l = reopen(t, l)
	checkLarge(t, l, 1, 51)
}
