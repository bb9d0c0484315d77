package control

import (
	"errors"
	"fmt"
	"time"

	"github.com/meshd/meshd/agent/slice"
	apiv1 "github.com/meshd/meshd/api/v1"
)

// patience is how long a host holds on to a slice that its server is behind of.
// A server that was just started knows less for a moment than it has forgotten;
// one that does not catch up in that time never will, such as one of a mesh
// that was restored from a backup.
const patience = 30 * time.Second

// A behind is what a server says that knows less than this host does.
type behind struct {
	slice *slice.Slice // by what it sent in this session, nil when it sent nothing
	since time.Time    // zero when no server was behind
	timer *time.Timer
}

func (b *behind) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
}

// merge takes over an update. After one that does not fit, the next session asks
// for all of the slice.
func (c *Client) merge(u *apiv1.SliceUpdate) (err error) {
	c.update(func() { err = c.mergeLocked(u) })
	c.notify()
	return err
}

func (c *Client) mergeLocked(u *apiv1.SliceUpdate) error {
	if c.resync && !u.GetSnapshot() {
		return errors.New("the server sent a change where the whole slice was asked for")
	}
	base := c.slice
	if c.behind.slice != nil {
		base = c.behind.slice
	}
	next, err := base.Merge(u)
	if c.resync = err != nil; err != nil {
		return fmt.Errorf("merging the slice: %w", err)
	}
	if next.Version < c.slice.Version && !c.outwaited() {
		// The server goes on only when it hears that its update came.
		c.behind.slice = next
		c.ack = &apiv1.Ack{Version: next.Version, Problems: c.ack.GetProblems(), AuthorityGeneration: c.ack.GetAuthorityGeneration()}
		return nil
	}
	c.adopt(next)
	return nil
}

func (c *Client) adopt(next *slice.Slice) {
	c.behind.stop()
	c.slice, c.behind = next, behind{}
}

// outwaited reports whether servers have been behind for too long. The first
// time that it is asked begins the wait.
func (c *Client) outwaited() bool {
	if c.behind.since.IsZero() {
		c.behind.since = time.Now()
		c.behind.timer = time.AfterFunc(patience, c.giveIn)
		c.log.Warn("the server knows less of the mesh than this host; it has time to catch up", "held", c.slice.Version)
	}
	return time.Since(c.behind.since) >= patience
}

// giveIn goes back to what the server knows.
func (c *Client) giveIn() {
	c.update(func() {
		if next := c.behind.slice; next != nil {
			c.log.Warn("the server did not catch up, so that this host goes back to what it knows", "held", c.slice.Version, "known", next.Version)
			c.adopt(next)
		}
	})
	c.notify()
}

// notify tells that the slice may have changed.
func (c *Client) notify() {
	select {
	case c.changes <- struct{}{}:
	default:
	}
}
