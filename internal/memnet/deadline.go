package memnet

import (
	"sync"
	"time"
)

// A deadline expires at a time and then wakes those who wait on a condition,
// whose lock guards it.
type deadline struct {
	expired bool
	timer   *time.Timer
	changes int
}

func (d *deadline) set(cond *sync.Cond, t time.Time) {
	d.stop()
	left := time.Until(t)
	d.expired = !t.IsZero() && left <= 0
	if !t.IsZero() && left > 0 {
		change := d.changes
		d.timer = time.AfterFunc(left, func() { d.expire(cond, change) })
	}
	cond.Broadcast()
}

// expire does nothing if the deadline was changed since.
func (d *deadline) expire(cond *sync.Cond, change int) {
	cond.L.Lock()
	defer cond.L.Unlock()
	if d.changes == change {
		d.expired = true
		cond.Broadcast()
	}
}

func (d *deadline) stop() {
	d.changes++
	if d.timer != nil {
		d.timer.Stop()
	}
}
