package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// RunWatchdog tells the service manager that the service is alive, as often as
// it asks for, until ctx ends. alive does a piece of the service's real work
// and gives an error, or does not come back, when the service is stuck: the
// service manager then hears nothing and restarts it. RunWatchdog returns at
// once when no watchdog is set.
func (n *Notifier) RunWatchdog(ctx context.Context, log *slog.Logger, alive func(context.Context) error) {
	if !n.Enabled() || n.watchdog <= 0 {
		return
	}
	// Three times per timeout, so that one slow answer is no restart.
	interval := n.watchdog / 3
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := n.feed(ctx, alive); err != nil && ctx.Err() == nil {
			log.Error("watchdog not fed: the service manager restarts this service unless it recovers",
				"error", err, "timeout", n.watchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (n *Notifier) feed(ctx context.Context, alive func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, n.watchdog)
	defer cancel()
	if err := alive(ctx); err != nil {
		return fmt.Errorf("liveness check: %w", err)
	}
	return n.send("WATCHDOG=1")
}
