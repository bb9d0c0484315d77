package store

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A cut-off leader that does not know it yet neither answers nor acknowledges.
func TestIsolatedLeaderDoesNotAnswer(t *testing.T) {
	// A lease so long that it goes on believing.
	bubble(t, 3, Timing{Heartbeat: 10 * time.Second, Election: 10 * time.Second, Lease: 10 * time.Second}, func(c *cluster) {
		old := c.leaderSeenBy("s1")
		c.write(old, "before")
		_, err := old.Read(c.Context(), Linearizable)
		c.must(err)
		c.isolate(old.config.ID)
		ctx, cancel := context.WithTimeout(c.Context(), time.Second)
		defer cancel()
		if _, err := old.Read(ctx, Linearizable); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrOutcomeUnknown) {
			c.Errorf("the isolated leader answered: %v", err)
		}
		if !old.IsLeader() {
			c.Error("the leader knows already, so this shows nothing")
		}
		if _, err := old.Apply(ctx, put("lost")); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			c.Errorf("a write in vain: %v", err)
		}
	})
}

// A leader that was stopped for a while finds answers to its heartbeats that
// were true when they were sent. They prove nothing by now.
func TestOldAnswersProveNothing(t *testing.T) {
	bubble(t, 3, Timing{Heartbeat: 3 * time.Second, Election: 3 * time.Second, Lease: time.Second}, func(c *cluster) {
		// For the leader hardly any time passes while it is stopped.
		c.timing["s1"] = Timing{Heartbeat: time.Minute, Election: time.Minute, Lease: time.Minute}
		c.stop("s1")
		c.start("s1")
		if l := c.leaderSeenBy("s2", "s1"); l != c.stores["s1"] {
			c.must(l.TransferLeadership(c.Context(), "s1"))
		}
		old := c.leaderSeenBy("s1", "s2", "s3")
		c.write(old, "before")
		_, err := old.Read(c.Context(), Linearizable)
		c.must(err)

		c.gate.close("s1 asks", "s1 is asked")
		defer c.gate.open("s1 asks", "s1 is asked")
		c.writeVia("s2", "after", "s1")

		read := make(chan error, 1)
		go func() {
			_, err := old.Read(c.Context(), Linearizable)
			read <- err
		}()
		synctest.Wait()
		if !old.IsLeader() {
			c.Fatal("the old leader knows already, so this shows nothing")
		}
		c.gate.open("s1 asks")
		if err := <-read; !errors.Is(err, ErrNotLeader) {
			c.Errorf("the deposed leader answered: %v", err)
		}
	})
}
