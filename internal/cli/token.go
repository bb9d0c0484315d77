package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
)

func tokenCommand() *cli.Command {
	return &cli.Command{
		Name:        "token",
		Usage:       "create, list or revoke join tokens",
		UsageText:   "meshd token create|list|revoke",
		Category:    configure,
		Subcommands: []*cli.Command{tokenCreateCommand(), tokenListCommand(), tokenRevokeCommand()},
	}
}

func tokenCreateCommand() *cli.Command {
	return &cli.Command{
		Name:  "create",
		Usage: "create a join token and print it, once",
		UsageText: "meshd token create [--server] [--ttl DURATION] [--reusable] [--name NAME]... [--service PATTERN]...\n                   [--whole-catalogue]\n\n" +
			"meshd token create --ttl 10m --service orders --service 'web-*'",
		Description: "A token lets one host join within an hour unless told otherwise. It carries the\n" +
			"servers' addresses and the fingerprint of the mesh's authority, so that the host\n" +
			"knows whom it speaks to. Treat it as a password.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "server", Usage: "let it join as a server"},
			&cli.DurationFlag{Name: "ttl", Usage: "it is void after this `DURATION`", Value: time.Hour},
			&cli.BoolFlag{Name: "reusable", Usage: "let any number of hosts join with it until it expires"},
			&cli.StringSliceFlag{Name: "name", Usage: "a host may join under this `NAME` (repeat for more; any by default)"},
			&cli.StringSliceFlag{Name: "service", Usage: "the host may run services of this `PATTERN`, such as orders or web-* (repeat for more; any by default)"},
			&cli.BoolFlag{Name: "whole-catalogue", Usage: "let the host know all services of a large mesh, as tools that list them need"},
			outputFlag(),
		},
		Action: tokenCreateAction,
	}
}

func tokenCreateAction(c *cli.Context) error {
	format, err := noArguments(c)
	if err != nil {
		return err
	}
	if c.Duration("ttl") <= 0 {
		return usagef(c, "--ttl must be more than nothing, such as 1h")
	}
	request := &apiv1.CreateTokenRequest{
		Server:          c.Bool("server"),
		Ttl:             durationpb.New(c.Duration("ttl")),
		Reusable:        c.Bool("reusable"),
		AllowedNames:    c.StringSlice("name"),
		AllowedServices: c.StringSlice("service"),
		WholeCatalogue:  c.Bool("whole-catalogue"),
	}
	return changeMesh(c, "create a join token", func(a *adminCall) error {
		reply, err := a.admin.CreateToken(a.ctx, request)
		if err != nil {
			return err
		}
		if format == formatTable {
			writeLine(c, joinLine(reply.Token, request.Server))
			return nil
		}
		return printMessage(c, format, reply, nil)
	})
}

// joinLine is what to type on the other host.
func joinLine(token string, server bool) string {
	if server {
		return "meshd join --server " + token
	}
	return "meshd join " + token
}

func tokenListCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list join tokens, without their secrets",
		UsageText: "meshd token list [-o table|json|yaml]\n\nmeshd token list -o json",
		Flags:     []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			format, err := noArguments(c)
			if err != nil {
				return err
			}
			return askMesh(c, "list the join tokens", func(a *adminCall) error {
				all := &apiv1.ListTokensReply{}
				err := client.Pages(func(p *apiv1.Page) (string, error) {
					reply, err := a.admin.ListTokens(a.ctx, &apiv1.ListTokensRequest{Page: p})
					all.Tokens = append(all.Tokens, reply.GetTokens()...)
					return reply.GetNext(), err
				})
				if err != nil {
					return err
				}
				return printMessage(c, format, all, func(t *table) { tokenRows(t, all.Tokens, time.Now()) })
			})
		},
	}
}

func tokenRows(t *table, tokens []*apiv1.Token, now time.Time) {
	t.row("ID", "FOR", "STATE", "EXPIRES", "NAMES", "SERVICES")
	for _, token := range tokens {
		role := "host"
		if token.Server {
			role = "server"
		}
		t.row(token.Id, role, tokenState(token, now), timeWord(token.ExpiresUnix), listOrAny(token.AllowedNames), listOrAny(token.AllowedServices))
	}
}

func tokenState(token *apiv1.Token, now time.Time) string {
	switch {
	case token.UsedUnix != 0 && !token.Reusable:
		return "used"
	case now.Unix() >= token.ExpiresUnix:
		return "expired"
	case token.Reusable:
		return "reusable"
	}
	return "unused"
}

func listOrAny(list []string) string {
	if len(list) == 0 || slices.Contains(list, "*") {
		return "any"
	}
	return strings.Join(list, ",")
}

func tokenRevokeCommand() *cli.Command {
	return &cli.Command{
		Name:        "revoke",
		Usage:       "make a join token void",
		UsageText:   "meshd token revoke ID\n\nmeshd token revoke 3f9a1c",
		Description: "Hosts that have joined with it stay in the mesh.",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef(c, "name one token by its id, as meshd token list shows it")
			}
			id := c.Args().First()
			return changeMesh(c, "revoke the join token "+id, func(a *adminCall) error {
				if _, err := a.admin.RevokeToken(a.ctx, &apiv1.RevokeTokenRequest{Id: id}); err != nil {
					return err
				}
				fmt.Fprintf(c.App.Writer, "join token %s revoked\n", id)
				return nil
			})
		},
	}
}
