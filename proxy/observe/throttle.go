package observe

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A throttle lets a few lines about the same thing through each second, and says
// how many it held back.
type throttle struct {
	mu    sync.Mutex
	lines map[string]*quota
}

type quota struct {
	since     time.Time
	let, held int
}

const linesPerSecond = 5

// log writes a line unless too many with that message and first value went
// before it.
func (t *throttle) log(log *slog.Logger, level slog.Level, message string, args ...any) {
	about := message
	if len(args) > 1 {
		if s, ok := args[1].(string); ok {
			about += "\x00" + s
		}
	}
	suppressed, ok := t.take(about)
	if !ok {
		return
	}
	if suppressed > 0 {
		args = append(args, "suppressed", suppressed)
	}
	log.Log(context.Background(), level, message, args...)
}

func (t *throttle) take(about string) (suppressed int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lines == nil {
		t.lines = map[string]*quota{}
	}
	q := t.lines[about]
	if q == nil {
		q = &quota{}
		t.lines[about] = q
	}
	if now := time.Now(); now.Sub(q.since) >= time.Second {
		q.since, q.let = now, 0
	}
	if q.let >= linesPerSecond {
		q.held++
		return 0, false
	}
	q.let++
	suppressed, q.held = q.held, 0
	return suppressed, true
}
