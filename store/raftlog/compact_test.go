package raftlog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// large are entries of 4 kB each.
func large(from, to uint64) (all []*raft.Log) {
	for i := from; i <= to; i++ {
		all = append(all, &raft.Log{Index: i, Term: 1, Data: []byte(fmt.Sprint(i, strings.Repeat(" ", 4000)))})
	}
	return all
}

func checkLarge(t *testing.T, l *Log, first, last uint64) {
	t.Helper()
	checkRange(t, l, first, last)
	for i := first; i <= last; i++ {
		var e raft.Log
		must(t, l.GetLog(i, &e))
		if !strings.HasPrefix(string(e.Data), fmt.Sprint(i, " ")) {
			t.Fatalf("entry %d is %.20q", i, e.Data)
		}
	}
}

func openToCompact(t *testing.T, above int64) *Log {
	l, err := Open(Options{Path: filepath.Join(t.TempDir(), "raft.db"), NoSync: true, CompactAbove: above})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// When Raft removes what a snapshot covers, the file shrinks; the rest stays.
func TestCompaction(t *testing.T) {
	l := openToCompact(t, 4<<20)
	must(t, l.StageCommitIndex(1990))
	must(t, l.StoreLogs(large(1, 2000)))
	must(t, l.SetUint64([]byte("term"), 7))
	must(t, l.DeleteRange(1, 500))
	l.background.Wait()
	before := l.Stats()
	if before.Compactions != 0 || before.Size < 8<<20 || before.Free == 0 {
		t.Fatalf("with a quarter free: %+v", before)
	}
	must(t, l.DeleteRange(1, 1900))
	l.background.Wait()
	after := l.Stats()
	if after.Compactions != 1 || after.Size > 2<<20 || after.LastCompaction == 0 || after.LastPause == 0 || after.CompactionError != nil {
		t.Fatalf("%+v", after)
	}
	info, err := os.Stat(l.Path())
	must(t, err)
	if info.Size() != after.Size || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has %d bytes, mode %v", info.Size(), info.Mode())
	}
	must(t, l.StoreLogs(large(2001, 2100)))
	l = reopen(t, l)
	checkLarge(t, l, 1901, 2100)
	if term, err := l.GetUint64([]byte("term")); err != nil || term != 7 {
		t.Errorf("term %d, %v", term, err)
	}
	if commit, err := l.GetCommitIndex(); err != nil || commit != 1990 {
		t.Errorf("commit %d, %v", commit, err)
	}
}

// A log that is large and mostly free when it is opened is compacted then.
func TestCompactionAtStart(t *testing.T) {
	l := newLog(t)
	must(t, l.StoreLogs(large(1, 2000)))
	must(t, l.DeleteRange(1, 1990))
	must(t, l.Close())
	l, err := Open(Options{Path: l.Path(), NoSync: true, CompactAbove: 1 << 20})
	must(t, err)
	defer l.Close()
	l.background.Wait()
	if s := l.Stats(); s.Compactions != 1 || s.Size > 1<<20 {
		t.Errorf("%+v", s)
	}
	checkLarge(t, l, 1991, 2000)
}

// What is appended, removed and voted while a compaction copies is in the new
// file, whenever it happens.
func TestChangesDuringCompaction(t *testing.T) {
	l := openToCompact(t, 1<<40)
	last, first := uint64(compactPiece+compactPiece/2), uint64(1)
	must(t, l.StoreLogs(large(first, last)))
	var done sync.WaitGroup
	stop := make(chan struct{})
	done.Go(func() {
		for term := uint64(1); term < 150; term++ {
			select {
			case <-stop:
				return
			default:
			}
			must(t, l.StoreLogs(large(last+1, last+10)))
			last += 5
			must(t, l.DeleteRange(last+1, last+5)) // a leader's that was deposed
			must(t, l.DeleteRange(first, first+1))
			first += 2
			must(t, l.SetUint64([]byte("term"), term))
		}
	})
	for range 3 {
		must(t, err2(l.rewrite(l.Stats())))
	}
	close(stop)
	done.Wait()
	checkLarge(t, l, first, last)
	term, err := l.GetUint64([]byte("term"))
	must(t, err)
	l = reopen(t, l)
	checkLarge(t, l, first, last)
	if again, err := l.GetUint64([]byte("term")); err != nil || again != term {
		t.Errorf("term %d, before %d, %v", again, term, err)
	}
}

// A compaction that cannot be leaves the log as it is and says why.
func TestFailedCompaction(t *testing.T) {
	l := openToCompact(t, 1<<20)
	must(t, l.StoreLogs(large(1, 1000)))
	must(t, os.Mkdir(l.compactPath(), 0o700))
	must(t, os.WriteFile(filepath.Join(l.compactPath(), "in the way"), nil, 0o600))
	must(t, l.DeleteRange(1, 990))
	l.background.Wait()
	if s := l.Stats(); s.CompactionError == nil || s.Compactions != 0 || !strings.Contains(s.CompactionError.Error(), l.Path()) {
		t.Errorf("%+v", s)
	}
	checkLarge(t, l, 991, 1000)
	must(t, os.RemoveAll(l.compactPath()))
	must(t, l.DeleteRange(1, 990))
	l.background.Wait()
	if s := l.Stats(); s.CompactionError != nil || s.Compactions != 1 {
		t.Errorf("%+v", s)
	}
}

func TestNoRoomForCompaction(t *testing.T) {
	if err := checkRoom(t.TempDir(), 1<<60); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Error(err)
	}
	must(t, checkRoom(t.TempDir(), 1))
}

// Closing does not wait for a compaction to end.
func TestCloseEndsCompaction(t *testing.T) {
	l := openToCompact(t, 1<<20)
	must(t, l.StoreLogs(large(1, 2000)))
	must(t, l.DeleteRange(1, 1990))
	must(t, l.Close())
	if _, err := os.Stat(l.compactPath()); err == nil {
		t.Error("an unfinished compaction was left")
	}
	checkLarge(t, open(t, l.Path()), 1991, 2000)
}

// Whoever waited for the lock while the log was compacted has the old file,
// which is the log no more.
func TestOldFileIsNotOpened(t *testing.T) {
	l := newLog(t)
	must(t, l.StoreLogs(entries(1, 3)))
	must(t, l.Close())
	replaced := false
	o := Options{Path: l.Path(), NoSync: true, openFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		if !replaced {
			replaced = true
			b, readErr := os.ReadFile(name)
			must(t, readErr)
			must(t, os.WriteFile(name+".other", b, 0o600))
			must(t, os.Rename(name+".other", name))
		}
		return f, err
	}}
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "another meshd server has") {
		t.Errorf("%v", err)
	}
	again, err := Open(o)
	must(t, err)
	defer again.Close()
	checkRange(t, again, 1, 3)
}
