package faults

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// jumpClock sets the clock of one server, mostly the leader's, forward or back: a
// little, past every time-out, past the lives of tokens and certificates.
func jumpClock(c *cluster) {
	p := c.processes[c.leads()]
	if c.rand.IntN(3) == 0 {
		p = c.processes[c.rand.IntN(len(c.processes))]
	}
	jumps := []time.Duration{3 * time.Second, -3 * time.Second, 2 * time.Hour, -2 * time.Hour, 40 * 24 * time.Hour, -40 * 24 * time.Hour}
	jump := jumps[c.rand.IntN(len(jumps))]
	c.note("the clock of %s goes %v ahead", p.name, jump)
	p.steer(c.t, jump, 0)
	c.suffer(500*time.Millisecond, 3*time.Second)
	p.steer(c.t, 0, 0)
	c.note("the clock of %s is right again", p.name)
}

// slowDisk lets each write to a leader's disk take long.
func slowDisk(c *cluster) {
	p := c.processes[c.leads()]
	delay := 50*time.Millisecond + time.Duration(c.rand.Int64N(int64(2*time.Second)))
	c.note("the disk of %s, which leads, takes %v for a write", p.name, delay)
	p.steer(c.t, 0, delay)
	c.suffer(time.Second, 4*time.Second)
	p.steer(c.t, 0, 0)
	c.note("the disk of %s is quick again", p.name)
}

// steers makes sure that the faults below are any.
func steers(t *testing.T, c *cluster) {
	c.t = t
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := c.processes[0]
	cl, err := p.connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()

	p.steer(t, 40*24*time.Hour, 0)
	c.await("the clock to jump", func() bool {
		token, err := cl.Admin().CreateToken(ctx, &apiv1.CreateTokenRequest{})
		return err == nil && token.ExpiresUnix > time.Now().Add(39*24*time.Hour).Unix()
	})
	const delay = 700 * time.Millisecond
	for _, p := range c.processes {
		p.steer(t, 0, delay)
	}
	c.await("the disks to be slow", func() bool {
		began := time.Now()
		_, err := ask(ctx, cl.Admin(), request{action: put, key: "steered", value: time.Now().UnixMilli() % 1e6})
		return err == nil && time.Since(began) >= delay
	})
	for _, p := range c.processes {
		p.steer(t, 0, 0)
	}
}

func TestClocksAndDisks(t *testing.T) {
	c := newCluster(t, steeredBinary(t), nil, nil)
	steers(t, c)
	t.Run("clock-jumps", func(t *testing.T) { c.torment(t, "clock", rounds(t, 4), jumpClock) })
	t.Run("slow-disk", func(t *testing.T) { c.torment(t, "slow", rounds(t, 3), slowDisk) })
}

// diskSize is enough for what a server keeps in a test, many times over.
const diskSize = "64m"

// ownDisk gives a server's directory a small file system of its own.
func ownDisk(t *testing.T) func(*process) {
	return func(p *process) {
		dir := filepath.Join(p.dir, "server")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("disk", dir, "tmpfs", 0, "mode=0700,size="+diskSize); err != nil {
			t.Fatalf("mounting a disk for %s: %v", p.name, err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	}
}

// fillDisk leaves no page free on the leader's disk. Others must take over, and
// the server must say why it cannot write, live through it and go on.
func fillDisk(c *cluster) {
	i := c.leads()
	p := c.processes[i]
	said := p.says("no space left on device")
	filler := filepath.Join(p.config.DataDir, "lost+found")
	c.note("the disk of %s, which leads, is full", p.name)
	fill(c.t, filler)
	c.await(p.name+" to say that its disk is full", func() bool { return p.says("no space left on device") > said })
	c.await("another to lead", func() bool {
		leader := c.processes[(i+1)%3].leader()
		return leader != "" && leader != p.name
	})
	c.suffer(100*time.Millisecond, 2*time.Second)
	if err := os.Remove(filler); err != nil {
		c.t.Error(err)
	}
	c.note("%s has space again", p.name)
	if !p.running() {
		c.t.Errorf("%s ended for want of space", p.name)
		p.stop(syscall.SIGKILL)
		c.restart(i)
	}
	c.await("all to vote", c.allVote)
}

func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for page := make([]byte, 4096); err == nil; {
		_, err = f.Write(page)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
}

// says counts the lines of the server's log that have a text.
func (p *process) says(what string) (n int) {
	text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	return bytes.Count(text, []byte(what))
}

func TestFullDisk(t *testing.T) {
	needMachines(t)
	c := newCluster(t, plainBinary(t), nil, ownDisk(t))
	c.torment(t, "full", rounds(t, 2), fillDisk)
}
