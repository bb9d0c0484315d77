package telemetry

import (
	"context"
	"io"
	"log/slog"
	"sync"
)

// A journalHandler tells the writer below a handler the priority of the line
// that comes next. Handlers made from it share the writer and its lock.
type journalHandler struct {
	slog.Handler
	out *prioritized
}

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.prefix = priority(r.Level)
	return h.Handler.Handle(ctx, r)
}

func (h *journalHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &journalHandler{h.Handler.WithAttrs(a), h.out}
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{h.Handler.WithGroup(name), h.out}
}

func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

// A prioritized writer puts prefix before each line; mu is held by the handler
// from setting prefix to the end of the write.
type prioritized struct {
	mu     sync.Mutex
	w      io.Writer
	prefix string
	line   []byte
}

func (p *prioritized) Write(b []byte) (int, error) {
	p.line = append(append(p.line[:0], p.prefix...), b...)
	if _, err := p.w.Write(p.line); err != nil {
		return 0, err
	}
	return len(b), nil
}
