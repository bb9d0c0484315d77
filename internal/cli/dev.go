package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/dev"
	"github.com/meshd/meshd/internal/telemetry"
)

func devCommand() *cli.Command {
	return &cli.Command{
		Name:      "dev",
		Usage:     "run a whole mesh in this process, to try and to develop with",
		UsageText: "meshd dev [--agents N] [--data DIR] [--demo]\n\nmeshd dev --demo",
		Description: "Runs a server and agents, each agent a host of its own, without any privilege.\n" +
			"A call between two of these hosts goes the whole way, link and both identities.\n" +
			"All processes here look the same to the kernel, so a host that runs one service\n" +
			"calls as that service. State is temporary unless --data is given.\n\n" +
			"With --demo small services call each other through the mesh, and a tour shows what\n" +
			"it does for them. After the tour the mesh runs on, or ends where the output is no\n" +
			"terminal.",
		Category: look,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "agents", Usage: "run `N` hosts", Value: 2},
			&cli.StringFlag{Name: "data", Usage: "keep the state in `DIR`"},
			&cli.StringFlag{Name: "http", Usage: "`ADDRESS` of the first host's metrics and health", DefaultText: config.DefaultAgent().HTTP},
			&cli.StringFlag{Name: "dns", Usage: "`ADDRESS` of the first host's DNS", DefaultText: config.DefaultAgent().DNS},
			&cli.StringFlag{Name: "node", Usage: "name the hosts `PREFIX`-1, PREFIX-2 and so on", Value: "dev"},
			&cli.StringFlag{Name: "log-level", Usage: "log from `LEVEL` on: debug, info, warn, error (default: warn, with --demo error)"},
			&cli.BoolFlag{Name: "demo", Usage: "run services and show what the mesh does for them"},
		},
		Action: devAction,
	}
}

func devAction(c *cli.Context) error {
	if err := takesNoArguments(c); err != nil {
		return err
	}
	level, err := telemetry.ParseLevel(devLogLevel(c))
	if err != nil {
		return usagef(c, "%v", err)
	}
	o := dev.Options{
		Dir: c.String("data"), Agents: c.Int("agents"), Prefix: c.String("node"),
		HTTP: c.String("http"), DNS: c.String("dns"),
		Logger: telemetry.NewLogger(c.App.ErrWriter, level, telemetry.Auto),
	}
	if c.Bool("demo") {
		if c.IsSet("agents") && o.Agents < dev.DemoAgents {
			return usagef(c, "the demo needs %d hosts, not %d", dev.DemoAgents, o.Agents)
		}
		o.Agents = max(o.Agents, dev.DemoAgents)
	}
	if o.Dir == "" {
		if o.Dir, err = dev.TempDir(); err != nil {
			return &failure{what: "no place for the mesh's state", cause: err, next: "name one: meshd dev --data DIR"}
		}
		defer os.RemoveAll(o.Dir)
	} else if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	return runDev(c, o)
}

func devLogLevel(c *cli.Context) string {
	switch {
	case c.IsSet("log-level"):
		return c.String("log-level")
	case c.Bool("demo"):
		return "error" // the tour makes calls fail, and says so
	}
	return "warn"
}

func runDev(c *cli.Context, o dev.Options) error {
	begin := time.Now()
	m, err := dev.Start(c.Context, o)
	if err != nil {
		return devFailure(err)
	}
	defer m.Stop()
	describeDev(c.App.Writer, o, m, time.Since(begin))
	if c.Bool("demo") {
		end, err := runDemo(c, m)
		if end || err != nil {
			return err
		}
	}
	fmt.Fprintln(c.App.Writer, "\nThe mesh runs until Ctrl-C.")
	<-c.Context.Done()
	return nil
}

func devFailure(err error) error {
	f := &failure{what: "the mesh cannot start", cause: err}
	if errors.Is(err, syscall.EADDRINUSE) {
		f.next = "stop what uses the address, such as another meshd dev, or choose others with --http, --dns and --data"
	}
	return f
}

func describeDev(w io.Writer, o dev.Options, m *dev.Mesh, took time.Duration) {
	fmt.Fprintf(w, "A mesh of %d hosts and one server, up after %.1f s. State: %s\n", len(m.Hosts), took.Seconds(), o.Dir)
	for _, h := range m.Hosts {
		fmt.Fprintf(w, "   %s   DNS %s   metrics http://%s/metrics\n", h.Name, h.DNS, h.HTTP)
	}
	fmt.Fprintf(w, "\nTo look and to change, in another terminal:\n   export MESHD_SOCKET=%s\n   meshd status\n", m.Socket())
	fmt.Fprintf(w, "To declare a service of yours on %s:\n   meshd service add NAME --port PORT --socket %s\n", m.Hosts[0].Name, m.Hosts[0].Socket)
}

// runDemo reports whether that was all.
func runDemo(c *cli.Context, m *dev.Mesh) (end bool, err error) {
	ctx := c.Context
	s, err := dev.OpenShop(ctx, m)
	if err != nil {
		return true, demoFailure(ctx, err)
	}
	defer s.Close()
	fmt.Fprintf(c.App.Writer, "\nServices: web on %s, orders on %s and %s, ledger on %s.\n", m.Hosts[0].Name, m.Hosts[1].Name, m.Hosts[2].Name, m.Hosts[3].Name)
	if err := s.Tour(ctx, c.App.Writer); err != nil {
		return true, demoFailure(ctx, err)
	}
	if f, ok := c.App.Writer.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return true, nil
	}
	fmt.Fprintf(c.App.Writer, "\nThe services run on; web shows an order: curl http://%s/\nThe mesh runs until Ctrl-C.\n", s.Web)
	<-ctx.Done()
	return true, nil
}

// demoFailure is none when the person had enough.
func demoFailure(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	return &failure{what: "the demo did not work", cause: err, next: "run it again with --log-level info, and report what it says"}
}
