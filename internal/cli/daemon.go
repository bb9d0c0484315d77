package cli

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/api/client"
	"github.com/meshd/meshd/internal/systemd"
	"github.com/meshd/meshd/internal/telemetry"
)

// A daemon is a server or an agent as the service manager sees it.
type daemon struct {
	name   string // server or agent
	logger *slog.Logger
	start  func(context.Context) error
	stop   func()
	ready  <-chan struct{} // closed when it has found its mesh
	// failed gives, after start, a channel that is closed when the daemon cannot
	// go on, and says why. Nil when that never happens.
	failed func() (<-chan struct{}, func() error)
	// reload reads anew what can change while the daemon runs.
	reload func() error
	// alive asks the daemon something that takes all of it to answer.
	alive func(context.Context) error
}

func newLogger(c *cli.Context, level slog.Level) (*slog.Logger, *slog.LevelVar) {
	v := &slog.LevelVar{}
	v.Set(level)
	return telemetry.NewLogger(c.App.ErrWriter, v, telemetry.Auto), v
}

// run runs the daemon until ctx ends, then stops it in good order.
func (d *daemon) run(ctx context.Context) error {
	// From the first moment: a SIGHUP that nobody awaits ends the process.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	if err := d.start(ctx); err != nil {
		return d.failure("cannot start", err)
	}
	notifier := systemd.FromEnvironment(os.Getenv, os.Getpid())
	d.tell(notifier.Ready("looking for its mesh"))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watchdog sync.WaitGroup
	watchdog.Go(func() { notifier.RunWatchdog(ctx, d.logger, d.alive) })
	err := d.attend(ctx, notifier, hangup)
	d.tell(notifier.Stopping())
	cancel()
	watchdog.Wait()
	d.stop()
	return err
}

// attend does what is asked from outside until ctx ends or the daemon fails.
func (d *daemon) attend(ctx context.Context, notifier *systemd.Notifier, hangup <-chan os.Signal) error {
	var failed <-chan struct{}
	var reason func() error
	if d.failed != nil {
		failed, reason = d.failed()
	}
	ready := d.ready
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-failed:
			return d.failure("cannot go on", reason())
		case <-ready:
			ready = nil
			d.tell(notifier.Status("serving"))
		case <-hangup:
			d.tell(notifier.Reloading())
			d.tell(notifier.Ready(d.reloaded()))
		}
	}
}

// reloaded reloads and says in words how that went.
func (d *daemon) reloaded() string {
	if err := d.reload(); err != nil {
		d.logger.Error("not reloaded: the daemon goes on with what it had", "error", err)
		return "serving with the configuration of before: the log says why"
	}
	return "serving"
}

// failure says why the daemon is not up: to the journal in its form, to a
// terminal in words.
func (d *daemon) failure(what string, err error) error {
	if os.Getenv("JOURNAL_STREAM") != "" {
		d.logger.Error("the "+d.name+" "+what, "error", err)
		return errLogged
	}
	return &failure{what: "the " + d.name + " " + what, cause: err, next: "mend this, then start it again: systemctl restart meshd-" + d.name}
}

// tell notes that the service manager could not be told: no reason to stop.
func (d *daemon) tell(err error) {
	if err != nil {
		d.logger.Warn("the service manager could not be told", "error", err)
	}
}

// ask makes one call over the daemon's own socket.
func ask(ctx context.Context, socket string, call func(context.Context, *client.Client) error) error {
	cl, err := client.Dial(ctx, socket)
	if err != nil {
		return err
	}
	defer cl.Close()
	return call(ctx, cl)
}

func configFlag(path string) cli.Flag {
	return &cli.StringFlag{Name: "config", Usage: "read the configuration from `FILE`", Value: path}
}

// configPath is the file that is asked for, which must be there, or the default,
// without which all settings have their defaults.
func configPath(c *cli.Context) (string, error) {
	path := c.String("config")
	if _, err := os.Stat(path); c.IsSet("config") && errors.Is(err, fs.ErrNotExist) {
		return "", fileFailure(path, err)
	}
	return path, nil
}

func takesNoArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usagef(c, "%s takes no argument, but has %q", c.Command.HelpName, c.Args().First())
	}
	return nil
}

// errLogged ends a daemon that has said why in its log.
var errLogged = errors.New("the reason is in the log")

// configFailure shows mistakes in a daemon's file where they stand.
func configFailure(path string, err error) error {
	return &failure{what: "the configuration " + path + " cannot be used", cause: err, next: "correct the file, then start again"}
}
