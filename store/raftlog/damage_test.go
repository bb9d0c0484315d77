package raftlog

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// A flipped bit is refused with an error that says what, where and what to do.
func TestDamageIsRefused(t *testing.T) {
	f := func(name string, bucket, key []byte, read func(*Log) error, want string) {
		t.Run(name, func(t *testing.T) {
			l := newLog(t)
			must(t, l.StageCommitIndex(1))
			must(t, l.StoreLogs(entries(1, 3)))
			must(t, l.SetUint64([]byte("term"), 9))
			l.cache.clear()
			for at := range sealedLen(t, l, bucket, key) {
				flip(t, l, bucket, key, at)
				err := read(l)
				var corrupt *CorruptError
				if !errors.As(err, &corrupt) {
					t.Fatalf("byte %d: %v", at, err)
				}
				for _, part := range []string{l.Path(), want, "join it again", "backup"} {
					if !strings.Contains(err.Error(), part) {
						t.Fatalf("%q is not in %q", part, err)
					}
				}
				flip(t, l, bucket, key, at)
			}
			must(t, read(l))
		})
	}
	f("entry", entryBucket, key(2), func(l *Log) error { return l.GetLog(2, new(raft.Log)) }, "log entry 2")
	f("term", stableBucket, []byte("term"), func(l *Log) error { _, err := l.GetUint64([]byte("term")); return err }, "Raft's term")
	f("commit", metaBucket, commitKey, func(l *Log) error { _, err := l.GetCommitIndex(); return err }, "Raft's commit")
}

func sealedLen(t *testing.T, l *Log, bucket, key []byte) (n int) {
	must(t, l.db.View(func(tx *bbolt.Tx) error {
		n = len(tx.Bucket(bucket).Get(key))
		return nil
	}))
	return n
}

func flip(t *testing.T, l *Log, bucket, key []byte, at int) {
	t.Helper()
	must(t, l.db.Update(func(tx *bbolt.Tx) error {
		b := bytes.Clone(tx.Bucket(bucket).Get(key))
		b[at] ^= 1
		return tx.Bucket(bucket).Put(key, b)
	}))
}

// An entry in another's place has a good checksum and is refused all the same.
func TestMisplacedEntryIsRefused(t *testing.T) {
	l := newLog(t)
	must(t, l.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(entryBucket).Put(key(7), encodeEntry(entry(8)))
	}))
	err := l.GetLog(7, new(raft.Log))
	if err == nil || !strings.Contains(err.Error(), "says it is entry 8") {
		t.Fatal(err)
	}
}

func TestForeignFileIsRefused(t *testing.T) {
	f := func(content []byte) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "raft.db")
		must(t, os.WriteFile(path, content, 0o600))
		_, err := Open(Options{Path: path, NoSync: true})
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), path) {
			t.Fatalf("%d bytes: %v", len(content), err)
		}
	}
	f(bytes.Repeat([]byte("not a database "), 4096))
	f(make([]byte, 1<<15))
}

func TestTruncatedFileIsRefused(t *testing.T) {
	l := newLog(t)
	must(t, l.StoreLogs(entries(1, 5000)))
	must(t, l.Close())
	must(t, os.Truncate(l.Path(), 4*4096))
	again, err := Open(Options{Path: l.Path(), NoSync: true})
	if err == nil {
		again.Close()
		t.Fatal("a file without most of its pages was opened")
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	l := newLog(t)
	must(t, l.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put(formatKey, seal(formatKey, []byte{2}))
	}))
	must(t, l.Close())
	_, err := Open(Options{Path: l.Path(), NoSync: true})
	if err == nil || !strings.Contains(err.Error(), "update this server") {
		t.Fatal(err)
	}
}

// After a failed write nothing more is written, though the disk might take it.
func TestFailedWriteIsFinal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	must(t, open(t, path).Close())
	readOnly := func(path string, _ int, _ os.FileMode) (*os.File, error) { return os.OpenFile(path, os.O_RDONLY, 0) }
	l, err := Open(Options{Path: path, openFile: readOnly})
	must(t, err)
	defer l.Close()

	err = l.StoreLogs(entries(1, 2))
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("StoreLogs: %v", err)
	}
	<-l.Failed()
	if again := l.SetUint64([]byte("term"), 1); again != err || l.Err() != err {
		t.Fatalf("then %v, before %v", again, err)
	}
	checkRange(t, l, 0, 0) // reading goes on
}

func TestFullDiskIsNotFinal(t *testing.T) {
	f := func(err error, want bool) {
		t.Helper()
		if passing(err) != want {
			t.Errorf("passing(%v) is %v", err, !want)
		}
	}
	f(&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, true)
	f(&fs.PathError{Op: "write", Path: "x", Err: syscall.EDQUOT}, true)
	f(&fs.PathError{Op: "write", Path: "x", Err: syscall.EIO}, false)
	f(&fs.PathError{Op: "sync", Path: "x", Err: syscall.ENOSPC}, false)
	f(syscall.ENOSPC, false) // as fdatasync gives it
	f(syscall.EIO, false)
}
