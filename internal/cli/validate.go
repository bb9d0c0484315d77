package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/mesh"
)

func validateCommand() *cli.Command {
	return &cli.Command{
		Name:      "validate",
		Usage:     "check files without a mesh",
		UsageText: "meshd validate -f FILE [-f FILE]...\n\nmeshd validate -f orders.yaml",
		Description: "Needs no server, so it fits an editor or a build. The files are taken to be all\n" +
			"there is: a reference to a resource that only the mesh has is a mistake here. To\n" +
			"check against what the mesh has: meshd apply --dry-run",
		Category: configure,
		Flags:    []cli.Flag{filesFlag()},
		Action: func(c *cli.Context) error {
			docs, err := readResources(c)
			if err != nil {
				return err
			}
			resources := make([]*apiv1.Resource, len(docs))
			for i, doc := range docs {
				resources[i] = doc.Resource
			}
			if err := config.Report(docs, mesh.ValidateSet(resources, resources)); err != nil {
				return mistaken(c, err)
			}
			fmt.Fprintf(c.App.Writer, "%s checked, no mistake found\n", count(len(docs), "resource"))
			return nil
		},
	}
}
