package raftlog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
)

func open(t testing.TB, path string) *Log {
	t.Helper()
	l, err := Open(Options{Path: path, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func newLog(t testing.TB) *Log {
	return open(t, filepath.Join(t.TempDir(), "raft.db"))
}

func entry(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: index/10 + 1, Type: raft.LogCommand, Data: []byte{byte(index), 1, 2}, AppendedAt: time.Unix(1_800_000_000, int64(index))}
}

func entries(from, to uint64) (all []*raft.Log) {
	for i := from; i <= to; i++ {
		all = append(all, entry(i))
	}
	return all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func checkRange(t testing.TB, l *Log, first, last uint64) {
	t.Helper()
	gotFirst, err := l.FirstIndex()
	must(t, err)
	gotLast, err := l.LastIndex()
	must(t, err)
	if gotFirst != first || gotLast != last {
		t.Fatalf("the log goes from %d to %d, want %d to %d", gotFirst, gotLast, first, last)
	}
}

func TestRoundTrip(t *testing.T) {
	l := newLog(t)
	checkRange(t, l, 0, 0)
	f := func(want *raft.Log) {
		t.Helper()
		must(t, l.StoreLog(want))
		var got raft.Log
		must(t, l.GetLog(want.Index, &got))
		if diff := cmp.Diff(*want, got); diff != "" {
			t.Errorf("-stored +read:\n%s", diff)
		}
	}
	f(entry(1))
	f(&raft.Log{Index: 2, Term: 1<<63 + 1, Type: raft.LogConfiguration})
	f(&raft.Log{Index: 3, Term: 3, Type: raft.LogBarrier, Extensions: []byte("ext"), AppendedAt: time.Unix(1, 0)})
	f(&raft.Log{Index: 4, Term: 3, Data: make([]byte, 1<<16), Extensions: make([]byte, 1<<10)})
	f(&raft.Log{Index: 1<<64 - 1, Term: 3})
	checkRange(t, l, 1, 1<<64-1)
}

func TestGetLogOfNone(t *testing.T) {
	l := newLog(t)
	must(t, l.StoreLogs(entries(5, 6)))
	for _, i := range []uint64{0, 4, 7} {
		if err := l.GetLog(i, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("GetLog(%d): %v", i, err)
		}
	}
}

func TestDeleteRange(t *testing.T) {
	f := func(min, max, first, last uint64) {
		t.Helper()
		l := newLog(t)
		must(t, l.StoreLogs(entries(1, 3*removeBatch)))
		must(t, l.DeleteRange(min, max))
		checkRange(t, l, first, last)
	}
	const n = 3 * removeBatch
	f(1, 1, 2, n)
	f(1, 2*removeBatch, 2*removeBatch+1, n)
	f(n, n, 1, n-1)
	f(10, n, 1, 9)
	f(10, n+100, 1, 9)
	f(0, n, 0, 0)
	f(1, n, 0, 0)
	f(n+1, n+5, 1, n)
}

// A removal that a crash cuts short leaves no hole, whichever end it is at.
func TestDeleteRangeCutShort(t *testing.T) {
	f := func(min, max, first, last uint64) {
		t.Helper()
		l := newLog(t)
		must(t, l.StoreLogs(entries(1, 3*removeBatch)))
		more, err := l.removeSome(min, max)
		must(t, err)
		if !more {
			t.Fatal("all was removed in one transaction")
		}
		checkRange(t, l, first, last)
		for i := first; i <= last; i++ {
			must(t, l.GetLog(i, new(raft.Log)))
		}
	}
	f(1, 2*removeBatch, removeBatch+1, 3*removeBatch)
	f(10, 3*removeBatch, 1, 2*removeBatch)
}

func TestStable(t *testing.T) {
	l := newLog(t)
	if _, err := l.Get([]byte("vote")); err == nil || err.Error() != "not found" {
		t.Errorf("Get of nothing: %v", err)
	}
	if _, err := l.GetUint64([]byte("term")); err == nil || err.Error() != "not found" {
		t.Errorf("GetUint64 of nothing: %v", err)
	}
	must(t, l.Set([]byte("vote"), []byte("s1")))
	must(t, l.SetUint64([]byte("term"), 1<<63))
	l = reopen(t, l)
	if vote, err := l.Get([]byte("vote")); err != nil || string(vote) != "s1" {
		t.Errorf("vote %q, %v", vote, err)
	}
	if term, err := l.GetUint64([]byte("term")); err != nil || term != 1<<63 {
		t.Errorf("term %d, %v", term, err)
	}
	if _, err := l.GetUint64([]byte("vote")); err == nil {
		t.Error("a vote was read as a number")
	}
}

func TestCommitIndex(t *testing.T) {
	l := newLog(t)
	f := func(want uint64) {
		t.Helper()
		if got, err := l.GetCommitIndex(); err != nil || got != want {
			t.Fatalf("commit index %d, %v, want %d", got, err, want)
		}
	}
	f(0)
	must(t, l.StageCommitIndex(3))
	f(0)
	must(t, l.StoreLogs(entries(1, 2)))
	f(2) // never above the last entry
	must(t, l.StoreLogs(entries(3, 5)))
	f(3)
	must(t, l.StageCommitIndex(5))
	l = reopen(t, l)
	f(3) // staged, but nothing was stored with it
	must(t, l.DeleteRange(1, 5))
	f(0)
}

func reopen(t testing.TB, l *Log) *Log {
	t.Helper()
	must(t, l.Close())
	return open(t, l.Path())
}

// A process that ends without closing leaves all that it stored.
func TestReopenAfterAbandon(t *testing.T) {
	l := newLog(t)
	must(t, l.StageCommitIndex(2))
	must(t, l.StoreLogs(entries(1, 3)))
	must(t, l.SetUint64([]byte("term"), 4))
	copied := filepath.Join(t.TempDir(), "raft.db")
	b, err := os.ReadFile(l.Path())
	must(t, err)
	must(t, os.WriteFile(copied, b, 0o600))

	again := open(t, copied)
	checkRange(t, again, 1, 3)
	if commit, err := again.GetCommitIndex(); err != nil || commit != 2 {
		t.Errorf("commit index %d, %v", commit, err)
	}
	if term, err := again.GetUint64([]byte("term")); err != nil || term != 4 {
		t.Errorf("term %d, %v", term, err)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		_, err := Open(Options{Path: l.Path()})
		if err == nil || !strings.Contains(err.Error(), "another meshd server has "+l.Path()+" open") {
			t.Fatalf("second open: %v", err)
		}
	})
}

func TestFileMode(t *testing.T) {
	info, err := os.Stat(newLog(t).Path())
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Fatalf("the file has mode %v", info.Mode())
	}
}

func TestClosed(t *testing.T) {
	l := newLog(t)
	must(t, l.Close())
	must(t, l.Close())
	if err := l.StoreLog(entry(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("StoreLog: %v", err)
	}
	if err := l.GetLog(1, new(raft.Log)); !errors.Is(err, ErrClosed) {
		t.Errorf("GetLog: %v", err)
	}
	if l.Err() != nil {
		t.Errorf("closing counts as a failure: %v", l.Err())
	}
}
