package cli

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

func serviceShowCommand() *cli.Command {
	return &cli.Command{
		Name:        "show",
		Usage:       "show a service: its instances and what is configured for it",
		UsageText:   "meshd service show NAME [--stale] [-o table|json|yaml]\n\nmeshd service show orders",
		Description: "A resource of the mesh is shown in full by meshd get KIND NAME -o yaml.",
		Flags:       []cli.Flag{staleFlag(), outputFlag()},
		Action: func(c *cli.Context) error {
			format, err := outputFormat(c)
			if err != nil {
				return err
			}
			if c.NArg() != 1 {
				return usagef(c, "name one service")
			}
			return showService(c, c.Args().First(), format)
		},
	}
}

func showService(c *cli.Context, name string, format format) error {
	return askMesh(c, "show the service "+name, func(a *adminCall) error {
		reply, err := a.admin.ListServices(a.ctx, &apiv1.ListServicesRequest{Name: name, Stale: c.Bool("stale")})
		if err != nil {
			return err
		}
		if len(reply.Services) == 0 {
			return &failure{what: fmt.Sprintf("there is no service %q", name),
				cause: errors.New("no host has declared it and no resource names it"),
				next:  "see which there are: meshd service list"}
		}
		s := reply.Services[0]
		if format != formatTable {
			return printMessage(c, format, s, nil)
		}
		summary, instances := &table{}, &table{}
		summaryRows(summary, s)
		endpointRows(instances, s.Endpoints)
		return writeTables(c.App.Writer, summary, instances)
	})
}

func summaryRows(t *table, s *apiv1.ServiceSlice) {
	t.row("service", s.Name)
	t.row("protocol", sliceProtocol(s))
	t.row("configured", configured(s.Config))
	t.row("routes", resourceNames(s.Routes))
	t.row("policies", resourceNames(s.Policies))
}

func configured(config *apiv1.Service) string {
	if config == nil {
		return "defaults"
	}
	return "by the resource of kind " + mesh.ResourceService
}

func resourceNames(resources []*apiv1.Resource) string {
	names := make([]string, len(resources))
	for i, r := range resources {
		names[i] = r.Name
	}
	return orElse(strings.Join(names, ", "), "none")
}

func endpointRows(t *table, endpoints []*apiv1.Endpoint) {
	t.row("HOST", "INSTANCE", "ADDRESS", "PROTOCOL", "HEALTH", "HOST STATE", "WEIGHT", "TAGS")
	for _, e := range endpoints {
		address := net.JoinHostPort(e.Address, strconv.FormatUint(uint64(e.Port), 10))
		t.row(e.Node, e.Id, address, protocolWord(e.Protocol), healthWord(e.Health), nodeState(e.NodeState), e.Weight, strings.Join(e.Tags, ","))
	}
}
