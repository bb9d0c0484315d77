package control

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"
)

// How long to wait before the next attempt to reach a server: doubled with each
// that fails, and less by up to half, so that hosts that lost a server together
// do not come back together.
const (
	minDelay = 100 * time.Millisecond
	maxDelay = 5 * time.Second
)

func delay(failures int) time.Duration {
	d := maxDelay
	if shift := failures - 1; shift < 6 {
		d = min(maxDelay, minDelay<<max(shift, 0))
	}
	return d/2 + rand.N(d/2)
}

// run holds one session after the other until the client is stopped or leaves.
func (c *Client) run(ctx context.Context) {
	defer close(c.done)
	failures := 0
	var round []string // servers not tried yet
	for ctx.Err() == nil && !c.left() {
		if len(round) == 0 {
			round = c.shuffled()
		}
		address := round[0]
		round = round[1:]
		welcomed, err := c.hold(ctx, address)
		if ctx.Err() != nil || c.left() {
			return
		}
		if welcomed {
			failures, round = 0, nil
		}
		var moved *movedError
		if errors.As(err, &moved) {
			c.log.Info("going to another server", "reason", moved)
			round = []string{moved.address}
			continue
		}
		failures++
		c.complain(failures, address, err)
		sleep(ctx, delay(failures))
	}
}

// complain logs the first failure for all to see. While servers are away for
// hours the others would only bury it.
func (c *Client) complain(failures int, address string, err error) {
	level := slog.LevelDebug
	if failures == 1 {
		level = slog.LevelWarn
	}
	c.log.Log(context.Background(), level, "no stream to the server; calls go on with what this host knows", "server", address, "error", err)
}

// hold opens a session to one server and keeps it as long as it lasts.
func (c *Client) hold(ctx context.Context, address string) (welcomed bool, err error) {
	conn, err := c.cfg.Dial(address)
	if err == nil {
		s := &session{client: c, conn: conn}
		err = s.hold(ctx)
		welcomed = s.server != ""
		conn.Close()
	}
	c.update(func() { c.session, c.lastError, c.behind.slice = nil, err, nil })
	return welcomed, err
}

func (c *Client) shuffled() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := slices.Clone(c.servers)
	rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	return s
}

// left reports whether goodbye was said.
func (c *Client) left() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
