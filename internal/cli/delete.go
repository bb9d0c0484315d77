package cli

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func deleteCommand() *cli.Command {
	return &cli.Command{
		Name:         "delete",
		Usage:        "delete a resource of the mesh's configuration",
		UsageText:    "meshd delete KIND NAME [--if-version N]\n\nmeshd delete route orders-canary",
		Description:  "A resource that another one needs is not deleted. What a deleted service, policy\nor mesh resource set returns to its default; instances stay.",
		Category:     configure,
		Flags:        []cli.Flag{&cli.Uint64Flag{Name: "if-version", Usage: "only if it is at version `N`, as meshd get shows it"}},
		BashComplete: completeKinds,
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usagef(c, "name a kind and a name")
			}
			request := &apiv1.DeleteRequest{Kind: c.Args().Get(0), Name: c.Args().Get(1), Version: c.Uint64("if-version")}
			if err := checkKind(c, request.Kind); err != nil {
				return err
			}
			return changeMesh(c, "delete the "+request.Kind+" "+request.Name, func(a *adminCall) error {
				reply, err := a.admin.Delete(a.ctx, request)
				if err != nil {
					return err
				}
				if len(reply.Problems) > 0 {
					return deleteRefused(request, reply.Problems)
				}
				printChange(c, reply.Change, false)
				return nil
			})
		},
	}
}

func deleteRefused(request *apiv1.DeleteRequest, problems []*apiv1.Problem) error {
	var causes, fixes []string
	for _, p := range problems {
		causes = append(causes, p.Message)
		if p.Fix != "" {
			fixes = append(fixes, p.Fix)
		}
	}
	return &failure{
		what:   fmt.Sprintf("the %s %q cannot be deleted", request.Kind, request.Name),
		cause:  fmt.Errorf("%s", strings.Join(causes, "\n")),
		effect: unchanged,
		next:   strings.Join(fixes, "\n"),
	}
}
