// Raftlog measures how fast the Raft log appends, beside what the same disk gives
// in the same run: the same bytes written over the blocks of a file that is there
// already, and one fdatasync each. That is the least that a durable write costs.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meshd/meshd/store/raftlog"
)

func main() {
	dir := flag.String("dir", ".", "folder on the disk that is to be measured")
	batches := flag.String("batches", "1,16,256", "how many entries to append at once")
	size := flag.Int("size", 256, "bytes in an entry")
	length := flag.Duration("time", time.Second, "how long one round takes")
	rounds := flag.Int("rounds", 5, "how many rounds; medians are shown")
	flag.Parse()
	if err := run(*dir, *batches, *size, *length, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "raftlog:", err)
		os.Exit(1)
	}
}

func run(dir, batches string, size int, length time.Duration, rounds int) error {
	dir, err := os.MkdirTemp(dir, "meshd-raftlog-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "entries at once\tappends/s\tentries/s\tin the disk\tdisk alone, writes/s\tof the disk\t")
	for _, text := range strings.Split(batches, ",") {
		batch, err := strconv.Atoi(text)
		if err != nil || batch < 1 {
			return fmt.Errorf("-batches has %q, which is no number of entries", text)
		}
		m := measurement{dir: dir, batch: batch, size: size, length: length}
		if err := m.run(rounds); err != nil {
			return err
		}
		log, disk := median(m.log), median(m.disk)
		fmt.Fprintf(out, "%d\t%.0f\t%.0f\t%.0f %%\t%.0f\t%.2f\t\n", batch, log, log*float64(batch), 100*median(m.synced), disk, log/disk)
	}
	return out.Flush()
}

// A measurement is of one number of entries at once.
type measurement struct {
	dir         string
	batch, size int
	length      time.Duration

	log, disk []float64 // appends and writes a second, by round
	synced    []float64 // part of the time in which the log waited for the disk
}

// run takes rounds of log and disk in turn, so that whatever else the machine
// does falls on both. A round before the first makes the files as large as they
// will be.
func (m *measurement) run(rounds int) error {
	for i := range rounds + 1 {
		log, synced, err := m.appendToLog()
		if err != nil {
			return err
		}
		disk, err := m.writeToDisk()
		if err != nil {
			return err
		}
		if i > 0 {
			m.log, m.synced, m.disk = append(m.log, log), append(m.synced, synced), append(m.disk, disk)
		}
	}
	return nil
}

// appendToLog appends as Raft does, which removes old entries from time to time.
func (m *measurement) appendToLog() (rate, synced float64, err error) {
	var waited time.Duration
	l, err := raftlog.Open(raftlog.Options{
		Path: filepath.Join(m.dir, fmt.Sprintf("log-%d.db", m.batch)), Written: func(w raftlog.Write) { waited += w.Sync },
	})
	if err != nil {
		return 0, 0, err
	}
	last, err := l.LastIndex()
	if err != nil {
		return 0, 0, errors.Join(err, l.Close())
	}
	const keep = 10_240
	start, n := time.Now(), 0
	for ; time.Since(start) < m.length && err == nil; n++ {
		err = l.StoreLogs(entries(last, m.batch, m.size))
		if last += uint64(m.batch); last/keep > (last-uint64(m.batch))/keep && last > 2*keep {
			err = errors.Join(err, l.DeleteRange(1, last-2*keep))
		}
	}
	took := time.Since(start)
	return float64(n) / took.Seconds(), waited.Seconds() / took.Seconds(), errors.Join(err, l.Close())
}

func entries(last uint64, n, size int) (all []*raft.Log) {
	for i := range n {
		all = append(all, &raft.Log{Index: last + 1 + uint64(i), Term: 1, Data: make([]byte, size), AppendedAt: time.Now()})
	}
	return all
}

// writeToDisk writes as many bytes each time as the entries have.
func (m *measurement) writeToDisk() (rate float64, err error) {
	f, err := os.OpenFile(filepath.Join(m.dir, "plain"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, err
	}
	const fileSize = 32 << 20
	b := make([]byte, m.batch*m.size)
	if info, err := f.Stat(); err != nil || info.Size() < fileSize {
		if _, err := f.Write(make([]byte, fileSize)); err != nil {
			return 0, errors.Join(err, f.Close())
		}
	}
	if err := f.Sync(); err != nil {
		return 0, errors.Join(err, f.Close())
	}
	start, n := time.Now(), 0
	for at := int64(0); time.Since(start) < m.length && err == nil; n++ {
		_, err = f.WriteAt(b, at)
		err = errors.Join(err, syscall.Fdatasync(int(f.Fd())))
		if at += int64(len(b)); at+int64(len(b)) > fileSize {
			at = 0
		}
	}
	return float64(n) / time.Since(start).Seconds(), errors.Join(err, f.Close())
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}
