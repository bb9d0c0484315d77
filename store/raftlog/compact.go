package raftlog

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// bbolt never gives back what it once took from the disk. When Raft has removed
// the entries that a snapshot covers, most of a large file is free, and what is
// left is copied to a new one that takes its place:
//
//  1. entries are copied in small pieces while others are appended, and then, in
//     rounds, those that have changed meanwhile;
//  2. for a moment no write is let in: the last changes, votes and commit index
//     are copied, the new file is synced and renamed over the old one, and the
//     directory is synced.
//
// Up to the rename the old file is the log, from then on the new one is, and
// both hold all that was acknowledged, so that a crash at any point loses
// nothing. What it leaves is removed when the log is opened.
const (
	compactFree  = 0.75 // of the file must be free
	compactPiece = 1024 // entries, or compactBytes
	compactBytes = 4 << 20
	// compactRounds bounds how often changes are copied before writes must wait
	// for the rest.
	compactRounds = 5
)

var errClosing = errors.New("the log is being closed")

// compaction knows what has changed since it was copied.
type compaction struct {
	mu      sync.Mutex
	running bool
	from    uint64 // entries from here on have changed
	done    Stats
}

// changed notes that entries from an index on may have been written or removed,
// once that is in the file and before anybody is let in to replace it. What is
// removed from the log's beginning need not be noted.
func (c *compaction) changed(index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.from = min(c.from, index)
}

func (c *compaction) takeChanged() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	from := c.from
	c.from = math.MaxUint64
	return from
}

func (c *compaction) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := !c.running
	c.running = true
	return began
}

func (c *compaction) end(took, pause time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = false
	if errors.Is(err, errClosing) {
		return
	}
	c.done.CompactionError = err
	if err == nil {
		c.done.Compactions++
		c.done.LastCompaction, c.done.LastPause = took, pause
	}
}

func (c *compaction) stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

func (l *Log) compactPath() string { return l.path + ".compact" }

// compactIfDue begins a compaction in the background.
func (l *Log) compactIfDue() {
	stats := l.Stats()
	if stats.Size <= l.options.CompactAbove || float64(stats.Free) <= compactFree*float64(stats.Size) || l.Err() != nil {
		return
	}
	select {
	case <-l.closing:
		return
	default:
	}
	if l.compaction.begin() {
		l.background.Go(func() { l.compact(stats) })
	}
}

func (l *Log) compact(before Stats) {
	start := time.Now()
	pause, err := l.rewrite(before)
	if err != nil {
		err = fmt.Errorf("compacting the Raft log %s: %w", l.path, err)
	}
	l.compaction.end(time.Since(start), pause, err)
}

func (l *Log) rewrite(before Stats) (pause time.Duration, err error) {
	if err := checkRoom(filepath.Dir(l.path), before.Size-before.Free); err != nil {
		return 0, err
	}
	to, err := l.newFile()
	if err != nil {
		return 0, err
	}
	if err := l.fill(to); err != nil {
		return 0, l.discard(to, err)
	}
	old, pause, err := l.replace(to)
	if err != nil {
		return pause, l.discard(to, err)
	}
	// Whatever closing it says, nobody needs the old file any more. Its blocks
	// are freed now, which takes a while, and keeps nobody waiting.
	_ = old.Close()
	return pause, nil
}

func (l *Log) discard(to *bbolt.DB, err error) error {
	return errors.Join(err, to.Close(), os.Remove(l.compactPath()))
}

// checkRoom refuses to fill a disk up that has hardly any room left.
func checkRoom(dir string, used int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	need := used + used/2 + probeSize
	if free := int64(fs.Bavail) * int64(fs.Bsize); free < need {
		return fmt.Errorf("it needs %d MB for a moment and there are %d MB free: make room in %s", need>>20+1, free>>20, dir)
	}
	return nil
}

// newFile makes the file that is to be the log. It goes by the log's name in
// errors to come, and is not synced before it is whole.
func (l *Log) newFile() (*bbolt.DB, error) {
	tmp := l.compactPath()
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	o := Options{NoSync: true, opened: l.options.opened, openFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
		fd, err := unix.Open(name, flag|unix.O_CLOEXEC, uint32(mode))
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), l.path), nil
	}}
	db, _, err := openFile(o, tmp)
	if err != nil {
		return nil, err
	}
	if err := db.Update(makeBuckets); err != nil {
		return nil, l.discard(db, err)
	}
	return db, nil
}

// fill copies everything, and again what has changed meanwhile, while entries
// are appended.
func (l *Log) fill(to *bbolt.DB) error {
	l.compaction.takeChanged()
	from := uint64(0)
	for range compactRounds {
		n, err := l.copyFrom(to, from)
		if err != nil {
			return err
		}
		if err := l.sync(to); err != nil {
			return err
		}
		if from = l.compaction.takeChanged(); n < compactPiece || from == math.MaxUint64 {
			break
		}
	}
	l.compaction.changed(from)
	return nil
}

// copyFrom makes the entries from an index on those that the log has, and tells
// how many it copied.
func (l *Log) copyFrom(to *bbolt.DB, from uint64) (n int, err error) {
	if from == math.MaxUint64 {
		return 0, nil
	}
	if err := to.Update(func(tx *bbolt.Tx) error { return removeFrom(tx, from) }); err != nil {
		return 0, err
	}
	for {
		piece, err := l.readPiece(from)
		if err != nil || len(piece) == 0 {
			return n, err
		}
		if err := to.Update(func(tx *bbolt.Tx) error { return putPairs(tx.Bucket(entryBucket), piece) }); err != nil {
			return n, err
		}
		n += len(piece)
		from = indexOf(piece[len(piece)-1].key) + 1
	}
}

type pair struct{ key, value []byte }

// readPiece is short, for a transaction that reads keeps the file from growing.
func (l *Log) readPiece(from uint64) (piece []pair, err error) {
	select {
	case <-l.closing:
		return nil, errClosing
	default:
	}
	err = l.view("an entry", func(tx *bbolt.Tx) error {
		piece = pairsFrom(tx, from, compactPiece, compactBytes)
		return nil
	})
	return piece, err
}

func pairsFrom(tx *bbolt.Tx, from uint64, most, mostBytes int) (pairs []pair) {
	c := tx.Bucket(entryBucket).Cursor()
	size := 0
	for k, v := c.Seek(key(from)); k != nil && len(pairs) < most && size < mostBytes; k, v = c.Next() {
		pairs = append(pairs, pair{clone(k), clone(v)})
		size += len(v)
	}
	return pairs
}

func putPairs(b *bbolt.Bucket, pairs []pair) error {
	b.FillPercent = fillPercent
	for _, p := range pairs {
		if err := b.Put(p.key, p.value); err != nil {
			return err
		}
	}
	return nil
}

func removeFrom(tx *bbolt.Tx, from uint64) error {
	return remove(tx, keysWhere(tx, func(c *bbolt.Cursor) []byte { k, _ := c.Seek(key(from)); return k }, math.MaxUint64))
}

// removeBelow removes all entries when first, the oldest that is to stay, is 0.
func removeBelow(tx *bbolt.Tx, first uint64) error {
	return remove(tx, keysWhere(tx, func(c *bbolt.Cursor) []byte { k, _ := c.First(); return k }, first-1))
}

func keysWhere(tx *bbolt.Tx, seek func(*bbolt.Cursor) []byte, last uint64) (keys [][]byte) {
	c := tx.Bucket(entryBucket).Cursor()
	for k := seek(c); k != nil && indexOf(k) <= last; k, _ = c.Next() {
		keys = append(keys, clone(k))
	}
	return keys
}

func remove(tx *bbolt.Tx, keys [][]byte) error {
	for _, k := range keys {
		if err := tx.Bucket(entryBucket).Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// replace lets nobody write, copies what is missing and puts the new file in
// the place of the old, which it gives back.
func (l *Log) replace(to *bbolt.DB) (old *bbolt.DB, pause time.Duration, err error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	start := time.Now()
	if err := l.Err(); err != nil {
		return nil, 0, err
	}
	if err := l.finish(to); err != nil {
		return nil, time.Since(start), err
	}
	if err := os.Rename(l.compactPath(), l.path); err != nil {
		return nil, time.Since(start), err
	}
	l.step("renamed")
	old = l.db
	to.NoSync = l.options.NoSync
	l.db = to
	if err := syncDir(filepath.Dir(l.path)); err != nil {
		// After a power cut the old file might be there again, and lack what is
		// written from now on.
		l.fail(fmt.Errorf("making the compacted Raft log %s durable: %w", l.path, err))
	}
	l.step("durable")
	return old, time.Since(start), nil
}

// finish makes the new file equal to the old one and durable.
func (l *Log) finish(to *bbolt.DB) error {
	err := guard(func() error {
		return l.db.View(func(old *bbolt.Tx) error {
			return to.Update(func(tx *bbolt.Tx) error { return l.catchUp(old, tx) })
		})
	})
	if err != nil {
		return err
	}
	return l.sync(to)
}

func (l *Log) sync(to *bbolt.DB) error {
	if l.options.NoSync {
		return nil
	}
	if err := to.Sync(); err != nil {
		return err
	}
	l.step("synced")
	return nil
}

func (l *Log) step(name string) {
	if l.options.step != nil {
		l.options.step(name)
	}
}

func (l *Log) catchUp(old, tx *bbolt.Tx) error {
	if from := l.compaction.takeChanged(); from != math.MaxUint64 {
		if err := removeFrom(tx, from); err != nil {
			return err
		}
		if err := putPairs(tx.Bucket(entryBucket), pairsFrom(old, from, math.MaxInt, math.MaxInt)); err != nil {
			return err
		}
	}
	if err := removeBelow(tx, edgeOf(old, (*bbolt.Cursor).First)); err != nil {
		return err
	}
	for _, name := range [][]byte{stableBucket, metaBucket} {
		if err := old.Bucket(name).ForEach(tx.Bucket(name).Put); err != nil {
			return err
		}
	}
	return nil
}
