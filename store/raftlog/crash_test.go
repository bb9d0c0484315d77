package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// A power cut leaves of a file what was synced, and of what was written since
// then any part. This disk sees every write to the log's files and, at each,
// what a machine would find that lost power just then.
type disk struct {
	t    *testing.T
	rand *rand.Rand
	dir  string // where the log is
	// By name, as the log's directory has them: files, and which of them come to
	// have another name once the directory is synced.
	files   map[string]*file
	unnamed *file // the log's file until the renaming is durable

	acked, wanted contents // before the call that is under way, and after it
	cuts          int
	blind         bool // not looking
}

type file struct {
	durable []byte
	pending []write
}

type write struct {
	at   int64
	data []byte
}

// contents are what a log holds.
type contents struct {
	Entries map[uint64]string
	Term    uint64
	Vote    string
}

func (c contents) clone() contents {
	entries := map[uint64]string{}
	for i, data := range c.Entries {
		entries[i] = data
	}
	c.Entries = entries
	return c
}

func newDisk(t *testing.T, seed uint64) *disk {
	nothing := contents{Entries: map[uint64]string{}}
	return &disk{t: t, rand: rand.New(rand.NewPCG(seed, 1)), dir: t.TempDir(), files: map[string]*file{}, acked: nothing, wanted: nothing}
}

func (d *disk) path() string { return filepath.Join(d.dir, "raft.db") }

func (d *disk) open(compactAbove int64) *Log {
	l, err := Open(Options{Path: d.path(), CompactAbove: compactAbove, opened: d.opened, step: d.step})
	must(d.t, err)
	d.t.Cleanup(func() { l.Close() })
	return l
}

// writerOf is what bbolt writes with. It has a field for that, and gives no
// access to it.
func writerOf(db *bbolt.DB) *func([]byte, int64) (int, error) {
	field := reflect.ValueOf(db).Elem().FieldByName("ops").Field(0)
	return (*func([]byte, int64) (int, error))(unsafe.Pointer(field.UnsafeAddr()))
}

// limited lets a database write only so many more times.
func limited(room *int) func(string, *bbolt.DB) {
	return func(name string, db *bbolt.DB) {
		writeAt := writerOf(db)
		really := *writeAt
		*writeAt = func(b []byte, at int64) (int, error) {
			if *room == 0 {
				return 0, &os.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}
			}
			*room--
			return really(b, at)
		}
	}
}

// opened begins to record a database's file.
func (d *disk) opened(name string, db *bbolt.DB) {
	b, err := os.ReadFile(name)
	must(d.t, err)
	f := &file{durable: b}
	d.files[filepath.Base(name)] = f
	writeAt := writerOf(db)
	really := *writeAt
	osFile := reflect.ValueOf(db).Elem().FieldByName("file")
	opened := *(**os.File)(unsafe.Pointer(osFile.UnsafeAddr()))
	*writeAt = func(b []byte, at int64) (int, error) {
		d.before(f, db, opened, at)
		n, err := really(b, at)
		f.pending = append(f.pending, write{at, bytes.Clone(b)})
		d.cut()
		return n, err
	}
}

// before infers what bbolt has synced: everything before it grows the file, and
// a transaction's pages before its root, which is one of the first two pages.
func (d *disk) before(f *file, db *bbolt.DB, opened *os.File, at int64) {
	info, err := opened.Stat()
	must(d.t, err)
	if grown := info.Size() - int64(len(f.durable)); grown > 0 {
		f.sync()
		f.durable = append(f.durable, make([]byte, grown)...)
	}
	if !db.NoSync && at < 2*int64(db.Info().PageSize) {
		f.sync()
	}
}

func (f *file) sync() {
	f.durable = apply(f.durable, f.pending)
	f.pending = nil
}

func apply(b []byte, writes []write) []byte {
	b = bytes.Clone(b)
	for _, w := range writes {
		if missing := int(w.at) + len(w.data) - len(b); missing > 0 {
			b = append(b, make([]byte, missing)...)
		}
		copy(b[w.at:], w.data)
	}
	return b
}

func (d *disk) step(name string) {
	switch name {
	case "synced":
		d.files["raft.db.compact"].sync()
	case "renamed":
		d.unnamed = d.files["raft.db"]
		d.files["raft.db"] = d.files["raft.db.compact"]
		delete(d.files, "raft.db.compact")
	case "durable":
		d.unnamed = nil
	}
	d.cut()
}

// do makes a call of the log, which is to bring it from what it holds to want.
func (d *disk) do(want contents, call func() error) {
	d.t.Helper()
	d.wanted = want
	must(d.t, call())
	d.acked = want
	d.files["raft.db"].sync()
	d.cut()
}

// cut checks what a log finds whose machine loses power now: as nothing,
// everything, and some part of what was not synced has reached the disk.
func (d *disk) cut() {
	d.check(func([]write) []write { return nil })
	d.check(func(all []write) []write { return all })
	d.check(d.some)
}

// some keeps any of the writes, and of some of them only a part.
func (d *disk) some(all []write) (kept []write) {
	for _, w := range all {
		switch d.rand.IntN(4) {
		case 0:
		case 1:
			kept = append(kept, write{w.at, w.data[:d.rand.IntN(len(w.data))]})
		case 2:
			from := d.rand.IntN(len(w.data)/512) * 512
			kept = append(kept, write{w.at + int64(from), w.data[from:]})
		default:
			kept = append(kept, w)
		}
	}
	return kept
}

// check reports what it finds and does not end the test, which is in the middle
// of one of bbolt's transactions.
func (d *disk) check(survive func([]write) []write) {
	d.t.Helper()
	if d.blind {
		return
	}
	dir, err := os.MkdirTemp(d.t.TempDir(), "")
	if err == nil {
		err = d.checkIn(dir, survive)
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		d.t.Errorf("cut %d: %v", d.cuts, err)
		d.blind = true
	}
	d.cuts++
}

func (d *disk) checkIn(dir string, survive func([]write) []write) error {
	for name, f := range d.files {
		if name == "raft.db" && d.unnamed != nil && d.rand.IntN(2) == 0 {
			f = d.unnamed
		}
		if err := os.WriteFile(filepath.Join(dir, name), apply(f.durable, survive(f.pending)), 0o600); err != nil {
			return err
		}
	}
	l, err := Open(Options{Path: filepath.Join(dir, "raft.db"), NoSync: true})
	if err != nil {
		return err
	}
	got, err := read(l)
	if err := errors.Join(err, l.Close()); err != nil {
		return err
	}
	if diff := cmp.Diff(d.acked, got); diff != "" && !reflect.DeepEqual(d.wanted, got) {
		return fmt.Errorf("-acknowledged +found:\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(dir, "raft.db.compact")); err == nil {
		return errors.New("an unfinished compaction was left")
	}
	return nil
}

func read(l *Log) (contents, error) {
	c := contents{Entries: map[uint64]string{}}
	first, err1 := l.FirstIndex()
	last, err2 := l.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return c, err
	}
	for i := first; i <= last && i > 0; i++ {
		var e raft.Log
		if err := l.GetLog(i, &e); err != nil {
			return c, fmt.Errorf("entry %d: %w", i, err)
		}
		c.Entries[i] = string(e.Data)
	}
	c.Term, _ = l.GetUint64([]byte("term"))
	vote, _ := l.Get([]byte("vote"))
	c.Vote = string(vote)
	return c, nil
}

// Whatever part of what was not synced is lost, the log opens and holds all that
// was acknowledged, at every write that it ever makes.
func TestPowerCuts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	d := newDisk(t, seed)
	l := d.open(0)
	now := d.acked
	next, first := uint64(1), uint64(1)
	for round := 0; d.cuts < 250 && !d.blind; round++ {
		now = now.clone()
		switch what := d.rand.IntN(10); {
		case what < 6:
			d.append(l, &now, &next)
		case what < 7:
			now.Term++
			d.do(now, func() error { return l.SetUint64([]byte("term"), now.Term) })
		case what < 8:
			now.Vote = fmt.Sprint("s", round)
			d.do(now, func() error { return l.Set([]byte("vote"), []byte(now.Vote)) })
		case next-first > 4:
			d.remove(l, &now, &next, &first)
		}
	}
}

func (d *disk) append(l *Log, now *contents, next *uint64) {
	var batch []*raft.Log
	for range 1 + d.rand.IntN(8) {
		data := bytes.Repeat([]byte{byte(d.rand.Int())}, d.rand.IntN(1500))
		batch = append(batch, &raft.Log{Index: *next, Term: 1, Data: data})
		now.Entries[*next] = string(data)
		*next++
	}
	d.do(*now, func() error { return l.StoreLogs(batch) })
}

// remove takes half of the entries off one end.
func (d *disk) remove(l *Log, now *contents, next, first *uint64) {
	middle := (*first + *next) / 2
	from, to := *first, middle
	if d.rand.IntN(2) == 0 {
		from, to = middle+1, *next-1
		*next = middle + 1
	} else {
		*first = middle + 1
	}
	for i := from; i <= to; i++ {
		delete(now.Entries, i)
	}
	d.do(*now, func() error { return l.DeleteRange(from, to) })
}

// A compaction may be cut short at any point of it.
func TestPowerCutsWhileCompacting(t *testing.T) {
	d := newDisk(t, rand.Uint64())
	l := d.open(1 << 40)
	now := contents{Entries: map[uint64]string{}, Term: 3, Vote: "s2"}
	d.blind = true
	for i := uint64(1); i <= 40; i++ {
		must(t, l.StoreLogs([]*raft.Log{{Index: i, Term: 1, Data: bytes.Repeat([]byte{1}, 1500)}}))
		now.Entries[i] = string(bytes.Repeat([]byte{1}, 1500))
	}
	must(t, l.SetUint64([]byte("term"), 3))
	must(t, l.Set([]byte("vote"), []byte("s2")))
	d.files["raft.db"].sync()
	d.acked, d.wanted, d.blind = now, now, false
	must(t, err2(l.rewrite(l.Stats())))
	if d.cuts < 60 || d.unnamed != nil || len(d.files) != 1 {
		t.Errorf("after %d power cuts the files are %v", d.cuts, d.files)
	}
	more := now.clone()
	more.Entries[41] = "more"
	d.do(more, func() error { return l.StoreLog(&raft.Log{Index: 41, Term: 1, Data: []byte("more")}) })
}

func err2[T any](_ T, err error) error { return err }
