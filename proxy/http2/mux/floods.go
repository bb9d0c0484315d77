package mux

import (
	"time"

	"github.com/meshd/meshd/proxy/http2/frame"
)

var (
	errTooManyResets = &frame.Error{Code: frame.EnhanceYourCalm, Reason: "too many streams are opened only to be reset"}
	errTooIdle       = &frame.Error{Code: frame.EnhanceYourCalm, Reason: "too many frames carry no call forward"}
)

// floods counts what costs us more than it costs the peer.
type floods struct {
	began        time.Time
	resets, ends int
	idles        int
}

// reset counts a stream that was reset by the client, or for what it did, and
// reports whether that is one too many. Servers may reset what they were asked.
func (f *floods) reset(c *Config, now time.Time) bool {
	if c.Client {
		return false
	}
	f.turn(c, now)
	f.resets++
	return f.resets > c.Resets && f.resets > f.ends
}

// well counts a stream that ended as it should.
func (f *floods) well() { f.ends++ }

// idle counts a frame that carries no call forward, and reports whether it is
// one too many.
func (f *floods) idle(c *Config, now time.Time) bool {
	f.turn(c, now)
	f.idles++
	return f.idles > c.Idle
}

// useful notes that a call is carried forward, which needs frames of other kinds
// now and then.
func (f *floods) useful() { f.idles = 0 }

func (f *floods) turn(c *Config, now time.Time) {
	if now.Sub(f.began) >= c.Period {
		*f = floods{began: now}
	}
}
