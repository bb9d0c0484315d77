package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func serviceCommand() *cli.Command {
	return &cli.Command{
		Name:        "service",
		Usage:       "add, remove, list or show services",
		UsageText:   "meshd service add|remove|list|show",
		Category:    services,
		Subcommands: []*cli.Command{serviceAddCommand(), serviceRemoveCommand(), serviceListCommand(), serviceShowCommand()},
	}
}

func serviceRemoveCommand() *cli.Command {
	return &cli.Command{
		Name:        "remove",
		Usage:       "take a service of this host out of the mesh",
		UsageText:   "meshd service remove ID\n\nmeshd service remove orders",
		Description: "ID is the name that the service was added under, unless --id gave another. A\nservice declared in a file goes when its file goes.",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef(c, "name one service of this host, as meshd service list --local shows it")
			}
			id := c.Args().First()
			return changeHost(c, "remove the service "+id, func(l *localCall) error {
				if _, err := l.local.RemoveService(l.ctx, &apiv1.RemoveServiceRequest{Id: id}); err != nil {
					return err
				}
				fmt.Fprintf(c.App.Writer, "service %s removed from this host\n", id)
				return nil
			})
		},
	}
}
