package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"time"

	"github.com/meshd/meshd/internal/telemetry"
)

// quietly is memberlist's logger: every packet of a stranger makes it write a
// line.
func quietly(logger *slog.Logger) *log.Logger {
	return log.New(logWriter{telemetry.Limit(logger, 20, 10*time.Second)}, "", 0)
}

// logWriter takes memberlist's log lines, such as "[WARN] memberlist: text",
// to the level that they name.
type logWriter struct{ logger *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
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
	w.logger.Log(context.Background(), level, "gossip: "+strings.TrimPrefix(text, "memberlist: "))
	return len(line), nil
}
