package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Limit gives a logger for what strangers can cause: of the lines above debug it
// passes on at most n in each period, and tells with the next one how many it
// left out.
func Limit(log *slog.Logger, n int, period time.Duration) *slog.Logger {
	return slog.New(limitHandler{log.Handler(), &limit{max: n, period: period}})
}

type limitHandler struct {
	slog.Handler
	limit *limit
}

func (h limitHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return h.Handler.Handle(ctx, r)
	}
	leftOut, ok := h.limit.take()
	if !ok {
		return nil
	}
	if leftOut > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("lines_left_out", leftOut))
	}
	return h.Handler.Handle(ctx, r)
}

func (h limitHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limitHandler{h.Handler.WithAttrs(attrs), h.limit}
}

func (h limitHandler) WithGroup(name string) slog.Handler {
	return limitHandler{h.Handler.WithGroup(name), h.limit}
}

// A limit counts the lines of the present period.
type limit struct {
	max    int
	period time.Duration

	mu      sync.Mutex
	start   time.Time
	passed  int
	leftOut int
}

func (l *limit) take() (leftOut int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.start) >= l.period {
		l.start, l.passed = now, 0
	}
	if l.passed >= l.max {
		l.leftOut++
		return 0, false
	}
	l.passed++
	leftOut, l.leftOut = l.leftOut, 0
	return leftOut, true
}
