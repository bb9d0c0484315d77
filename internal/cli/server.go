package cli

import (
	"context"
	"log/slog"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/server"
)

func serverCommand() *cli.Command {
	return &cli.Command{
		Name:      "server",
		Usage:     "run a server, as meshd-server.service does",
		UsageText: "meshd server [--config FILE]\n\nsystemctl start meshd-server",
		Description: "Runs until SIGTERM. SIGHUP has it read its log level anew. The host must be a\n" +
			"server already, by meshd init or meshd join --server.",
		Category: run,
		Flags:    []cli.Flag{configFlag(config.DefaultServerFile)},
		Action:   serverAction,
	}
}

func serverAction(c *cli.Context) error {
	if err := takesNoArguments(c); err != nil {
		return err
	}
	path, err := configPath(c)
	if err != nil {
		return err
	}
	file, err := config.LoadServer(path)
	logger, level := newLogger(c, file.LogLevel)
	d := &daemon{name: "server", logger: logger}
	if err != nil {
		return d.failure("cannot use its configuration", err)
	}
	cfg, err := serverConfig(file, logger)
	if err != nil {
		return d.failure("cannot start", err)
	}
	s, err := server.New(cfg)
	if err != nil {
		return d.failure("cannot start", err)
	}
	d.start, d.stop, d.ready = s.Start, s.Stop, s.Ready()
	d.failed = func() (<-chan struct{}, func() error) { return s.Failed(), s.Err }
	d.reload = func() error { return reloadServer(path, level) }
	d.alive = func(ctx context.Context) error { return serverAlive(ctx, file.Socket) }
	return d.run(c.Context)
}

func reloadServer(path string, level *slog.LevelVar) error {
	file, err := config.LoadServer(path)
	if err != nil {
		return err
	}
	level.Set(file.LogLevel)
	return nil
}

func serverAlive(ctx context.Context, socket string) error {
	return ask(ctx, socket, func(ctx context.Context, cl *client.Client) error {
		_, err := cl.Admin().Status(ctx, &apiv1.StatusRequest{})
		return err
	})
}

// serverConfig completes what the file leaves to be found.
func serverConfig(file config.Server, logger *slog.Logger) (server.Config, error) {
	cfg := server.Config{
		Name: file.Name, DataDir: file.DataDir, Credentials: os.Getenv("CREDENTIALS_DIRECTORY"),
		Listen: file.Listen, Advertise: file.Advertise,
		GossipListen: file.GossipListen, GossipAdvertise: file.GossipAdvertise,
		HTTP: file.HTTP, Socket: file.Socket, Backup: server.Backup(file.Backup),
		Network: netx.System{}, Logger: logger,
	}
	if cfg.Advertise != "" && cfg.GossipAdvertise != "" {
		return cfg, nil
	}
	address, err := ownAddress("")
	if err != nil {
		return cfg, err
	}
	if cfg.Advertise == "" {
		cfg.Advertise, err = advertised(address, file.Listen)
	}
	if cfg.GossipAdvertise == "" && err == nil {
		cfg.GossipAdvertise, err = advertised(address, file.GossipListen)
	}
	return cfg, err
}
