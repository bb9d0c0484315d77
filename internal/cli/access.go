package cli

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
)

func accessCommand() *cli.Command {
	return &cli.Command{
		Name:        "access",
		Usage:       "create, list or revoke access tokens, to manage the mesh from elsewhere",
		UsageText:   "meshd access create|list|revoke",
		Category:    configure,
		Subcommands: []*cli.Command{accessCreateCommand(), accessListCommand(), accessRevokeCommand()},
	}
}

var roles = map[string]apiv1.Role{
	"viewer": apiv1.Role_ROLE_VIEWER, "operator": apiv1.Role_ROLE_OPERATOR, "admin": apiv1.Role_ROLE_ADMIN,
}

func accessCreateCommand() *cli.Command {
	return &cli.Command{
		Name:  "create",
		Usage: "create an access token and print it, once",
		UsageText: "meshd access create --role viewer|operator|admin [--ttl DURATION] [--description TEXT] [--out FILE]\n\n" +
			"meshd access create --role viewer --description 'the graphs' --out graphs.token",
		Description: "A viewer reads; an operator changes resources, makes join tokens for hosts and\n" +
			"removes hosts too; an admin may do everything. Root on a server's host needs no\n" +
			"token. Treat a token as a password.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "role", Usage: "what its bearer may do: `ROLE` is viewer, operator or admin"},
			&cli.DurationFlag{Name: "ttl", Usage: "it is void after this `DURATION`; 0 keeps it for good", Value: 90 * 24 * time.Hour},
			&cli.StringFlag{Name: "description", Usage: "what it is for, as a `TEXT` that the list shows"},
			&cli.StringFlag{Name: "out", Usage: "write it to a new `FILE` that only you may read, instead of printing it"},
			outputFlag(),
		},
		Action: accessCreateAction,
	}
}

func accessCreateAction(c *cli.Context) error {
	format, err := noArguments(c)
	if err != nil {
		return err
	}
	role, ok := roles[c.String("role")]
	if !ok {
		return usagef(c, "say what the token is to allow: --role viewer, operator or admin")
	}
	if c.Duration("ttl") < 0 {
		return usagef(c, "--ttl must not be negative")
	}
	request := &apiv1.CreateAccessTokenRequest{Role: role, Description: c.String("description"), Ttl: durationpb.New(c.Duration("ttl"))}
	if path := c.String("out"); path != "" {
		return accessCreateInto(c, path, request)
	}
	return changeMesh(c, "create an access token", func(a *adminCall) error {
		reply, err := a.admin.CreateAccessToken(a.ctx, request)
		if err != nil {
			return err
		}
		if format == formatTable {
			writeLine(c, reply.Token)
			return nil
		}
		return printMessage(c, format, reply, nil)
	})
}

// accessCreateInto keeps a new token in a new file, which is made first: a token
// that cannot be kept is of no use.
func accessCreateInto(c *cli.Context, path string, request *apiv1.CreateAccessTokenRequest) error {
	file, err := outFile(path)
	if err != nil {
		return err
	}
	defer file.Close()
	var reply *apiv1.CreateAccessTokenReply
	err = changeMesh(c, "create an access token", func(a *adminCall) (err error) {
		reply, err = a.admin.CreateAccessToken(a.ctx, request)
		return err
	})
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return writeToken(c, file, reply)
}

func writeToken(c *cli.Context, file *os.File, reply *apiv1.CreateAccessTokenReply) error {
	path := file.Name()
	if _, err := file.WriteString(reply.Token + "\n"); err != nil {
		return &failure{what: "cannot write the access token to " + path, cause: err,
			effect: "access token " + reply.Id + " was made, and nobody has it", next: "revoke it: meshd access revoke " + reply.Id}
	}
	fmt.Fprintf(c.App.Writer, "access token %s is in %s\nuse it: meshd --server HOST:7300 --token-file %s status\n", reply.Id, path, path)
	return nil
}

func accessListCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list access tokens, without their secrets",
		UsageText: "meshd access list [-o table|json|yaml]\n\nmeshd access list -o json",
		Flags:     []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			format, err := noArguments(c)
			if err != nil {
				return err
			}
			return askMesh(c, "list the access tokens", func(a *adminCall) error {
				all := &apiv1.ListAccessTokensReply{}
				err := client.Pages(func(p *apiv1.Page) (string, error) {
					reply, err := a.admin.ListAccessTokens(a.ctx, &apiv1.ListAccessTokensRequest{Page: p})
					all.Tokens = append(all.Tokens, reply.GetTokens()...)
					return reply.GetNext(), err
				})
				if err != nil {
					return err
				}
				return printMessage(c, format, all, func(t *table) { accessRows(t, all.Tokens, time.Now()) })
			})
		},
	}
}

func accessRows(t *table, tokens []*apiv1.AccessToken, now time.Time) {
	t.row("ID", "ROLE", "STATE", "EXPIRES", "MADE BY", "DESCRIPTION")
	for _, token := range tokens {
		state, expires := "valid", "never"
		if token.ExpiresUnix != 0 {
			expires = timeWord(token.ExpiresUnix)
			if now.Unix() >= token.ExpiresUnix {
				state = "expired"
			}
		}
		t.row(token.Id, enumWord(token.Role.String(), "ROLE_"), state, expires, token.CreatedBy, token.Description)
	}
}

func timeWord(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }

func accessRevokeCommand() *cli.Command {
	return &cli.Command{
		Name:        "revoke",
		Usage:       "make an access token void, at once",
		UsageText:   "meshd access revoke ID\n\nmeshd access revoke 3f9a1c",
		Description: "What its bearer has changed stays as it is; meshd audit --actor token/ID shows it.",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef(c, "name one token by its id, as meshd access list shows it")
			}
			id := c.Args().First()
			return changeMesh(c, "revoke the access token "+id, func(a *adminCall) error {
				if _, err := a.admin.RevokeAccessToken(a.ctx, &apiv1.RevokeAccessTokenRequest{Id: id}); err != nil {
					return err
				}
				fmt.Fprintf(c.App.Writer, "access token %s revoked\n", id)
				return nil
			})
		},
	}
}
