package faults

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestCopiesOfADataDirectory copies the directory of a server that is written to
// and starts the server on the copy. That of a paused process is what a crash
// leaves, and must hold what was acknowledged before. That of a running one may be
// torn: the server opens it, with the same contents, or says that it is damaged.
func TestCopiesOfADataDirectory(t *testing.T) {
	c := newServers(t, 1, plainBinary(t), nil, nil)
	p := c.processes[0]
	for i := range rounds(t, 4) {
		w := startWorkload(fmt.Sprintf("copy-%d", i), c.connectors(), 4, 5*time.Millisecond, uint64(i))
		c.await("some work", func() bool {
			writes, _, reads := w.history.counts()
			return writes > 20 && reads > 2*keys
		})
		c.suffer(time.Millisecond, 300*time.Millisecond)
		paused := i%2 == 0
		if paused {
			p.signal(syscall.SIGSTOP)
		}
		copied := w.history.tick()
		original := c.replaceByCopy(p)
		w.end()
		w.history.forgetAfter(copied)
		if !c.opens(p) {
			if paused {
				t.Fatal("the copy of a paused server was refused")
			}
			t.Log("a torn copy was refused")
			c.putBack(p, original)
			continue
		}
		w.readAll(t, c.connectors())
		judge(t, &w.history)
		if err := os.RemoveAll(original); err != nil {
			t.Fatal(err)
		}
	}
}

// forgetAfter makes of all that ended after a moment what is not known: it may be
// in a copy of that moment or not.
func (h *history) forgetAfter(moment int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.ops[:0]
	for _, op := range h.ops {
		if op.Return > moment && op.Return != math.MaxInt64 {
			if op.Input.(request).action == read {
				continue
			}
			op.Output, op.Return = reply{outcome: unknown}, math.MaxInt64
		}
		kept = append(kept, op)
	}
	h.ops = kept
}

// replaceByCopy copies the directory, kills the server and puts the copy in the
// place of the original, whose new path it gives.
func (c *cluster) replaceByCopy(p *process) (original string) {
	c.t.Helper()
	dir := p.config.DataDir
	copied := dir + ".copy"
	if out, err := exec.Command("cp", "-a", dir, copied).CombinedOutput(); err != nil {
		c.t.Fatalf("copying %s: %v: %s", dir, err, out)
	}
	p.stop(syscall.SIGKILL)
	original = dir + ".original"
	c.rename(dir, original)
	c.rename(copied, dir)
	return original
}

func (c *cluster) putBack(p *process, original string) {
	c.t.Helper()
	if err := os.RemoveAll(p.config.DataDir); err != nil {
		c.t.Fatal(err)
	}
	c.rename(original, p.config.DataDir)
	if !c.opens(p) {
		c.t.Fatal("the server did not start on its own directory")
	}
}

func (c *cluster) rename(from, to string) {
	c.t.Helper()
	if err := os.Rename(from, to); err != nil {
		c.t.Fatal(err)
	}
}

// opens starts a server and reports whether it came up. One that refuses its
// directory must say that it is damaged.
func (c *cluster) opens(p *process) (up bool) {
	c.t.Helper()
	said := p.says("damaged")
	p.start(c.t)
	c.await(p.name+" to come up or to end", func() bool {
		up = p.leader() != ""
		return up || !p.running()
	})
	if up {
		return true
	}
	p.stop(syscall.SIGKILL)
	if p.says("damaged") == said {
		log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
		c.t.Errorf("%s did not say that its directory is damaged:\n%s", p.name, log[max(0, len(log)-2000):])
	}
	return false
}
