package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/agent"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/host"
)

func leaveCommand() *cli.Command {
	return &cli.Command{
		Name:  "leave",
		Usage: "take this host out of its mesh",
		UsageText: "meshd leave [--force]\n\n" +
			"meshd leave",
		Description: "Tells the servers that the host goes for good, stops its agent and removes the\n" +
			"agent's state, keys included. Declarations in files stay. A server on this host\n" +
			"leaves first: it hands over leadership, and is refused when it is the last one or\n" +
			"when the others could then not lose one more.",
		Category: setUp,
		Flags:    []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "leave though no server can be told, or the other servers can ill spare the one here"}},
		Action:   leaveAction,
	}
}

func leaveAction(c *cli.Context) error {
	if err := takesNoArguments(c); err != nil {
		return err
	}
	if err := requireRoot(c); err != nil {
		return err
	}
	file, err := config.LoadAgent(config.DefaultAgentFile)
	if err != nil {
		return configFailure(config.DefaultAgentFile, err)
	}
	if err := leaveAsServer(c); err != nil {
		return err
	}
	m, err := agent.Joined(file.DataDir)
	if errors.Is(err, agent.ErrNotJoined) {
		return &failure{what: "this host is in no mesh", effect: unchanged}
	}
	if err := sayGoodbye(c); err != nil && !c.Bool("force") {
		f := asFailure(err)
		f.effect = "this host is still in its mesh"
		f.next += "\nto leave without telling: meshd leave --force"
		return f
	}
	if err := removeAgent(c, file.DataDir); err != nil {
		return err
	}
	if m == nil {
		writeLine(c, "this host's damaged membership was removed")
		return nil
	}
	fmt.Fprintf(c.App.Writer, "%s left the mesh %s\n", m.Name, m.ClusterName)
	return nil
}

func sayGoodbye(c *cli.Context) error {
	return changeHost(c, "tell the servers that this host leaves", func(l *localCall) error {
		_, err := l.local.Leave(l.ctx, &apiv1.LeaveRequest{})
		return err
	})
}

func removeAgent(c *cli.Context, dataDir string) error {
	h, err := host.New()
	if err != nil {
		return err
	}
	if err := h.Stop(c.Context, host.AgentUnit); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dataDir), removeIfThere(config.DefaultAgentFile)); err != nil {
		return &failure{what: "the agent's state could not be removed", cause: err, effect: "the host has left, and its agent is stopped", next: "remove it by hand: rm -r " + dataDir}
	}
	return h.RemoveResolver(c.Context)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
