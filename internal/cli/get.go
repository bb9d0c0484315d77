package cli

import (
	"bytes"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/mesh"
)

var resourceKinds = []string{mesh.ResourceService, mesh.ResourceRoute, mesh.ResourcePolicy, mesh.ResourceMesh}

func getCommand() *cli.Command {
	return &cli.Command{
		Name:  "get",
		Usage: "show resources of the mesh's configuration",
		UsageText: "meshd get [KIND [NAME]] [--service NAME] [--prefix TEXT] [--stale] [-o table|json|yaml]\n\n" +
			"meshd get route\n" +
			"meshd get policy orders -o yaml",
		Description: "KIND is service, route, policy or mesh. What -o yaml prints can be applied again;\n" +
			"its version makes sure that nobody changed the resource in between.",
		Category: configure,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "service", Usage: "only what is for the service `NAME`"},
			&cli.StringFlag{Name: "prefix", Usage: "only resources whose names begin with this `TEXT`"},
			staleFlag(), outputFlag(),
		},
		BashComplete: completeKinds,
		Action:       getAction,
	}
}

func completeKinds(c *cli.Context) {
	if c.NArg() > 0 {
		return
	}
	for _, kind := range resourceKinds {
		writeLine(c, kind)
	}
}

func getAction(c *cli.Context) error {
	format, err := outputFormat(c)
	if err != nil {
		return err
	}
	if c.NArg() > 2 {
		return usagef(c, "at most a kind and a name are taken")
	}
	request := &apiv1.GetResourcesRequest{Kind: c.Args().Get(0), Name: c.Args().Get(1), Stale: c.Bool("stale"),
		Service: c.String("service"), Prefix: c.String("prefix")}
	if request.Kind != "" {
		if err := checkKind(c, request.Kind); err != nil {
			return err
		}
	}
	return askMesh(c, "get resources", func(a *adminCall) error {
		var resources []*apiv1.Resource
		err := client.Pages(func(p *apiv1.Page) (string, error) {
			request.Page = p
			reply, err := a.admin.GetResources(a.ctx, request)
			resources = append(resources, reply.GetResources()...)
			return reply.GetNext(), err
		})
		if err != nil {
			return err
		}
		if request.Name != "" && len(resources) == 0 {
			return &failure{what: fmt.Sprintf("there is no %s %q", request.Kind, request.Name), next: "see which there are: meshd get " + request.Kind}
		}
		return printResources(c, format, resources, request.Name != "")
	})
}

func checkKind(c *cli.Context, kind string) error {
	for _, k := range resourceKinds {
		if k == kind {
			return nil
		}
	}
	if best := closest(kind, resourceKinds); best != "" {
		return usagef(c, "there is no kind %q: perhaps you mean %s", kind, best)
	}
	return usagef(c, "there is no kind %q: there are service, route, policy and mesh", kind)
}

// printResources prints resources as people write them: YAML documents, or
// JSON of the same form (one object when one was asked for, else a list).
func printResources(c *cli.Context, format format, resources []*apiv1.Resource, single bool) error {
	if format == formatTable {
		t := &table{}
		t.row("KIND", "NAME", "VERSION", "SERVICE")
		for _, r := range resources {
			t.row(mesh.ResourceKind(r), r.Name, r.Version, mesh.ServiceOf(r))
		}
		return t.write(c.App.Writer)
	}
	documents := make([][]byte, len(resources))
	for i, r := range resources {
		document, err := config.EncodeResource(r)
		if err != nil {
			return err
		}
		documents[i] = document
	}
	if format == formatYAML {
		_, err := c.App.Writer.Write(bytes.Join(documents, []byte("---\n")))
		return err
	}
	return printDocumentsJSON(c, documents, single)
}

func printDocumentsJSON(c *cli.Context, documents [][]byte, single bool) error {
	for i, document := range documents {
		data, err := config.YAMLToJSON(document)
		if err != nil {
			return err
		}
		documents[i] = data
	}
	data := bytes.Join(documents, []byte(","))
	if !single {
		data = append(append([]byte("["), data...), ']')
	}
	return printData(c.App.Writer, formatJSON, data)
}
