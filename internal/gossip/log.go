package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/meshd/meshd/internal/telemetry"
)

// quietly takes memberlist's log: every packet of a stranger makes it write a
// line.
func quietly(logger *slog.Logger) *logWriter {
	return &logWriter{limited: telemetry.Limit(logger, 20, 10*time.Second)}
}

// A logWriter takes memberlist's log lines, such as "[WARN] memberlist: text",
// to the level that they name.
type logWriter struct {
	limited *slog.Logger
	muted   atomic.Bool
}

func (w *logWriter) logger() *log.Logger { return log.New(w, "", 0) }

// mute ends the log: whoever passed the logger in may be gone before
// memberlist's last probe.
func (w *logWriter) mute() { w.muted.Store(true) }

func (w *logWriter) Write(line []byte) (int, error) {
	if w.muted.Load() {
		return len(line), nil
	}
	level, text := slog.LevelInfo, strings.TrimSpace(string(line))
	if word, rest, ok := strings.Cut(text, "] "); ok && strings.HasPrefix(word, "[") {
		text = rest
		switch word[1:] {
		case "ERR", "WARN":
			// Unreachable members and packets of strangers are no errors of ours.
			level = slog.LevelWarn
		case "DEBUG":
			level = slog.LevelDebug
		}
	}
	w.limited.Log(context.Background(), level, "gossip: "+strings.TrimPrefix(text, "memberlist: "))
	return len(line), nil
}
