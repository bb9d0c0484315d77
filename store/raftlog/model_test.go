package raftlog

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// model is what a log must look like after the same calls.
type model struct {
	log     *Log
	entries map[uint64]raft.Log
	stable  map[string]uint64
	staged  uint64
	commit  uint64
}

func TestAgainstModel(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		m := &model{entries: map[uint64]raft.Log{}, stable: map[string]uint64{}}
		m.log = open(t, filepath.Join(dir, time.Unix(int64(n), 0).Format("150405")))
		defer func() { must(t, m.log.Close()) }()
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.append,
			"remove": m.remove,
			"set":    m.set,
			"stage":  m.stage,
			"reopen": func(*rapid.T) { m.log = reopen(t, m.log); m.staged = 0 },
			"":       m.check,
		})
	})
}

func (m *model) append(t *rapid.T) {
	next := m.last() + rapid.Uint64Range(1, 3).Draw(t, "gap")
	var batch []*raft.Log
	for range rapid.IntRange(1, 5).Draw(t, "n") {
		e := anyEntry(t, next)
		batch = append(batch, &e)
		m.entries[next] = e
		next++
	}
	if err := m.log.StoreLogs(batch); err != nil {
		t.Fatal(err)
	}
	if m.staged > 0 {
		m.commit = m.staged
	}
}

func anyEntry(t *rapid.T, index uint64) raft.Log {
	e := raft.Log{
		Index:      index,
		Term:       rapid.Uint64().Draw(t, "term"),
		Type:       raft.LogType(rapid.Byte().Draw(t, "type")),
		Data:       rapid.SliceOf(rapid.Byte()).Draw(t, "data"),
		Extensions: rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "extensions"),
	}
	if nanos := rapid.Int64().Draw(t, "appended"); nanos != 0 {
		e.AppendedAt = time.Unix(0, nanos)
	}
	return e
}

func (m *model) remove(t *rapid.T) {
	lo := rapid.Uint64Range(0, m.last()+1).Draw(t, "min")
	hi := rapid.Uint64Range(lo, m.last()+2).Draw(t, "max")
	if err := m.log.DeleteRange(lo, hi); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(m.entries, func(i uint64, _ raft.Log) bool { return lo <= i && i <= hi })
}

func (m *model) set(t *rapid.T) {
	k, v := rapid.SampledFrom([]string{"term", "vote"}).Draw(t, "key"), rapid.Uint64().Draw(t, "value")
	if err := m.log.SetUint64([]byte(k), v); err != nil {
		t.Fatal(err)
	}
	m.stable[k] = v
}

func (m *model) stage(t *rapid.T) {
	m.staged = rapid.Uint64Range(1, m.last()+5).Draw(t, "commit")
	if err := m.log.StageCommitIndex(m.staged); err != nil {
		t.Fatal(err)
	}
}

func (m *model) last() uint64 {
	return slices.Max(append(slices.Collect(maps.Keys(m.entries)), 0))
}

func (m *model) first() uint64 {
	if len(m.entries) == 0 {
		return 0
	}
	return slices.Min(slices.Collect(maps.Keys(m.entries)))
}

func (m *model) check(t *rapid.T) {
	first, err1 := m.log.FirstIndex()
	last, err2 := m.log.LastIndex()
	commit, err3 := m.log.GetCommitIndex()
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	want := [3]uint64{m.first(), m.last(), min(m.commit, m.last())}
	if got := [3]uint64{first, last, commit}; got != want {
		t.Fatalf("first, last, commit are %v, want %v", got, want)
	}
	m.checkEntries(t)
	for k, want := range m.stable {
		if got, err := m.log.GetUint64([]byte(k)); err != nil || got != want {
			t.Fatalf("%s is %d, %v, want %d", k, got, err, want)
		}
	}
}

func (m *model) checkEntries(t *rapid.T) {
	for i := range m.last() + 2 {
		var got raft.Log
		err := m.log.GetLog(i, &got)
		want, ok := m.entries[i]
		if !ok {
			if !errors.Is(err, raft.ErrLogNotFound) {
				t.Fatalf("entry %d, removed: %v", i, err)
			}
			continue
		}
		want.Data, want.Extensions = clone(want.Data), clone(want.Extensions)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("entry %d: %v\n%s", i, err, diff)
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(encodeEntry(entry(1)), uint64(1))
	f.Add(encodeEntry(&raft.Log{Index: 9, Extensions: []byte("ext")}), uint64(9))
	f.Add([]byte("short"), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, index uint64) {
		var e raft.Log
		if err := decodeEntry(b, index, &e); err != nil {
			return
		}
		if again := encodeEntry(&e); string(again) != string(b) {
			t.Fatalf("%x was read as %+v, which is written %x", b, e, again)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	f := func(name string, batch int, noSync bool) {
		b.Run(name, func(b *testing.B) {
			l, err := Open(Options{Path: filepath.Join(b.TempDir(), "raft.db"), NoSync: noSync})
			must(b, err)
			defer l.Close()
			batchOf := make([]*raft.Log, batch)
			data := make([]byte, 256)
			index := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				for i := range batchOf {
					index++
					batchOf[i] = &raft.Log{Index: index, Term: 1, Data: data}
				}
				must(b, l.StoreLogs(batchOf))
			}
		})
	}
	for _, batch := range []int{1, 16, 256} {
		f(fmt.Sprint(batch), batch, false)
		f(fmt.Sprint(batch, "/nosync"), batch, true)
	}
}

// Opening looks at every page in use, and finds those that are free by it.
func BenchmarkOpen(b *testing.B) {
	f := func(name string, kept uint64) {
		b.Run(name, func(b *testing.B) {
			const all = 200_000
			l := newLog(b)
			for i := uint64(0); i < all; i += 1000 {
				must(b, l.StoreLogs(entries(i+1, i+1000)))
			}
			must(b, l.DeleteRange(1, all-kept))
			must(b, l.Close())
			for b.Loop() {
				l, err := Open(Options{Path: l.Path(), CompactAbove: 1 << 40})
				must(b, err)
				must(b, l.Close())
			}
		})
	}
	f("200,000 entries", 200_000)
	f("10,000 entries, the rest free", 10_000)
}
