package cli

import (
	"context"
	"log/slog"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/agent"
	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
)

func agentCommand() *cli.Command {
	return &cli.Command{
		Name:      "agent",
		Usage:     "run an agent, as meshd-agent.service does",
		UsageText: "meshd agent [--config FILE]\n\nsystemctl start meshd-agent",
		Description: "Runs until SIGTERM. SIGHUP has it read its declarations and its log level anew.\n" +
			"The host must be in a mesh already, by meshd init or meshd join.",
		Category: run,
		Flags:    []cli.Flag{configFlag(config.DefaultAgentFile)},
		Action:   agentAction,
	}
}

func agentAction(c *cli.Context) error {
	if err := takesNoArguments(c); err != nil {
		return err
	}
	path, err := configPath(c)
	if err != nil {
		return err
	}
	file, err := config.LoadAgent(path)
	logger, level := newLogger(c, file.LogLevel)
	d := &daemon{name: "agent", logger: logger}
	if err != nil {
		return d.failure("cannot use its configuration", err)
	}
	a, err := agent.New(agent.Config{Agent: file, Logger: logger})
	if err != nil {
		return d.failure("cannot start", err)
	}
	d.start, d.stop, d.ready = a.Start, a.Stop, a.Ready()
	d.reload = func() error { return reloadAgent(path, level, a) }
	d.alive = func(ctx context.Context) error { return agentAlive(ctx, file.Socket) }
	return d.run(c.Context)
}

func reloadAgent(path string, level *slog.LevelVar, a *agent.Agent) error {
	file, err := config.LoadAgent(path)
	if err != nil {
		return err
	}
	level.Set(file.LogLevel)
	a.Reload()
	return nil
}

func agentAlive(ctx context.Context, socket string) error {
	return ask(ctx, socket, func(ctx context.Context, cl *client.Client) error {
		_, err := cl.Local().LocalStatus(ctx, &apiv1.LocalStatusRequest{})
		return err
	})
}
