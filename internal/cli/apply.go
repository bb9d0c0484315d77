package cli

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
)

func applyCommand() *cli.Command {
	return &cli.Command{
		Name:  "apply",
		Usage: "change the mesh's configuration to what files say",
		UsageText: "meshd apply -f FILE [-f FILE]... [--dry-run]\n\n" +
			"meshd apply -f orders.yaml\n" +
			"meshd apply -f /etc/mesh.d --dry-run\n" +
			"generate | meshd apply -f -",
		Description: "All resources of all files are applied together, or none is. Every mistake is\n" +
			"shown with its file, line and column. What no file names stays as it is.",
		Category: configure,
		Flags: []cli.Flag{filesFlag(),
			&cli.BoolFlag{Name: "dry-run", Usage: "have the servers check everything and say what would change"}},
		Action: applyAction,
	}
}

func applyAction(c *cli.Context) error {
	docs, err := readResources(c)
	if err != nil {
		return withoutEffect(err)
	}
	request := &apiv1.ApplyRequest{DryRun: c.Bool("dry-run")}
	for _, doc := range docs {
		request.Resources = append(request.Resources, doc.Resource)
	}
	return changeMesh(c, "apply the files", func(a *adminCall) error {
		reply, err := a.admin.Apply(a.ctx, request)
		if err != nil {
			return err
		}
		if err := config.Report(docs, reply.Problems); err != nil {
			return withoutEffect(mistaken(c, err))
		}
		for _, change := range reply.Changes {
			printChange(c, change, request.DryRun)
		}
		return nil
	})
}

// withoutEffect says that the mesh is as it was.
func withoutEffect(err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	f = asFailure(err)
	f.effect = unchanged
	return f
}

func printChange(c *cli.Context, change *apiv1.Change, dryRun bool) {
	note := ""
	if dryRun {
		note = " (dry run)"
	}
	fmt.Fprintf(c.App.Writer, "%s %s %s%s\n", change.Kind, change.Name, change.Action, note)
}
