package faults

import (
	"context"
	"testing"
	"time"

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
