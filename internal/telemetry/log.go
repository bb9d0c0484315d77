// Package telemetry sets up what every daemon says of itself: logs, metrics and
// health over HTTP.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/term"
)

// Format of log lines.
type Format string

const (
	// Auto is Text on a terminal and JSON elsewhere.
	Auto Format = "auto"
	Text Format = "text"
	JSON Format = "json"
)

// ParseLevel reads debug, info, warn or error; empty is info.
func ParseLevel(s string) (slog.Level, error) {
	var l slog.Level
	if s == "" {
		return l, nil
	}
	if err := l.UnmarshalText([]byte(s)); err != nil || strings.ContainsAny(s, "+-") {
		return 0, fmt.Errorf("log level %q is none of debug, info, warn, error", s)
	}
	return l, nil
}

// NewLogger writes records to w. Under systemd (JOURNAL_STREAM is set) each line
// begins with its priority as sd-daemon(3) has it, so that `journalctl -p` works.
// A *slog.LevelVar as level can be changed while the daemon runs.
func NewLogger(w io.Writer, level slog.Leveler, format Format) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == Text || format == Auto && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, o))
	}
	if os.Getenv("JOURNAL_STREAM") == "" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	// The journal has its own time and the priority says the level.
	o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	p := &prioritized{w: w}
	return slog.New(&journalHandler{slog.NewJSONHandler(p, o), p})
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
