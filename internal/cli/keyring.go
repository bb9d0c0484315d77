package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func keyringCommand() *cli.Command {
	return &cli.Command{
		Name:        "keyring",
		Usage:       "list or rotate the key that the servers' gossip is encrypted with",
		UsageText:   "meshd keyring list|rotate",
		Category:    configure,
		Subcommands: []*cli.Command{keyringListCommand(), keyringRotateCommand()},
	}
}

func keyringListCommand() *cli.Command {
	return &cli.Command{
		Name:        "list",
		Usage:       "list the keys by their fingerprints, and which servers use them",
		UsageText:   "meshd keyring list [-o table|json|yaml]\n\nmeshd keyring list -o json",
		Description: "There is one, but for the seconds of a rotation. Keys themselves are never shown.",
		Flags:       []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			format, err := noArguments(c)
			if err != nil {
				return err
			}
			return askMesh(c, "list the gossip keys", func(a *adminCall) error {
				reply, err := a.admin.ListGossipKeys(a.ctx, &apiv1.ListGossipKeysRequest{})
				if err != nil {
					return err
				}
				return printMessage(c, format, reply, func(t *table) { keyRows(t, reply) })
			})
		},
	}
}

func keyRows(t *table, reply *apiv1.ListGossipKeysReply) {
	t.row("KEY", "USE", "SINCE", "SERVERS")
	for _, k := range reply.Keys {
		use, since := "understood", ""
		if k.Primary {
			use = "sends"
			since = time.Unix(reply.RotatedUnix, 0).UTC().Format(time.RFC3339)
		}
		t.row(k.Fingerprint, use, since, strings.Join(k.Servers, ","))
	}
}

func keyringRotateCommand() *cli.Command {
	return &cli.Command{
		Name:      "rotate",
		Usage:     "put a new key in the place of the present one",
		UsageText: "meshd keyring rotate\n\nmeshd keyring rotate",
		Description: "Returns when every server that is alive uses the new key alone. One that is away\n" +
			"gets it when it comes back. A rotation that was begun goes on by itself.",
		Action: func(c *cli.Context) error {
			if err := takesNoArguments(c); err != nil {
				return err
			}
			return changeMesh(c, "rotate the gossip key", func(a *adminCall) error {
				reply, err := a.admin.RotateGossipKey(a.ctx, &apiv1.RotateGossipKeyRequest{})
				if err != nil {
					return err
				}
				fmt.Fprintf(c.App.Writer, "all servers that are alive use the key %s alone\n", reply.Fingerprint)
				return nil
			})
		},
	}
}
