package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
)

func serviceListCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list the services of the mesh, or of this host",
		UsageText: "meshd service list [--prefix TEXT] [--tag TAG] [--host NAME] [--health HEALTH] [--meta KEY=VALUE]...\n                   [--stale] [-o table|json|yaml]\nmeshd service list --local [-o table|json|yaml]\n\nmeshd service list --health critical\nmeshd service list --local",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "local", Usage: "what is declared on this host, with the result of its checks"},
			&cli.StringFlag{Name: "prefix", Usage: "only services whose names begin with this `TEXT`"},
			&cli.StringFlag{Name: "tag", Usage: "only instances with this `TAG`"},
			&cli.StringFlag{Name: "host", Usage: "only instances on the host `NAME`"},
			&cli.StringFlag{Name: "health", Usage: "only instances whose `HEALTH` is passing or critical"},
			&cli.StringSliceFlag{Name: "meta", Usage: "only instances with this `KEY=VALUE` in their meta (repeat for more)"},
			staleFlag(), outputFlag(),
		},
		Action: func(c *cli.Context) error {
			format, err := noArguments(c)
			if err != nil {
				return err
			}
			if c.Bool("local") {
				return listLocal(c, format)
			}
			request, err := serviceFilters(c)
			if err != nil {
				return err
			}
			return askMesh(c, "list the services", func(a *adminCall) error {
				all := &apiv1.ListServicesReply{}
				err := client.Pages(func(p *apiv1.Page) (string, error) {
					request.Page = p
					reply, err := a.admin.ListServices(a.ctx, request)
					all.Services = append(all.Services, reply.GetServices()...)
					return reply.GetNext(), err
				})
				if err != nil {
					return err
				}
				return printMessage(c, format, all, func(t *table) { serviceRows(t, all.Services) })
			})
		},
	}
}

var healths = map[string]apiv1.Health{
	"": apiv1.Health_HEALTH_UNSPECIFIED, "passing": apiv1.Health_HEALTH_PASSING, "critical": apiv1.Health_HEALTH_CRITICAL,
}

func serviceFilters(c *cli.Context) (*apiv1.ListServicesRequest, error) {
	health, ok := healths[c.String("health")]
	if !ok {
		return nil, usagef(c, "there is no health %q: instances are passing or critical", c.String("health"))
	}
	r := &apiv1.ListServicesRequest{
		Stale: c.Bool("stale"), Prefix: c.String("prefix"), Tag: c.String("tag"), Node: c.String("host"), Health: health, Meta: map[string]string{},
	}
	for _, pair := range c.StringSlice("meta") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, usagef(c, "--meta %q has no key and value: write --meta version=2", pair)
		}
		r.Meta[key] = value
	}
	return r, nil
}

func serviceRows(t *table, list []*apiv1.ServiceSlice) {
	t.row("NAME", "PROTOCOL", "PASSING", "HOSTS", "ROUTES", "POLICIES")
	for _, s := range list {
		passing := 0
		hosts := map[string]bool{}
		for _, e := range s.Endpoints {
			if e.Health == apiv1.Health_HEALTH_PASSING && e.NodeState == apiv1.NodeState_NODE_STATE_ALIVE {
				passing++
			}
			hosts[e.Node] = true
		}
		t.row(s.Name, sliceProtocol(s), fmt.Sprintf("%d of %d", passing, len(s.Endpoints)),
			strings.Join(slices.Sorted(maps.Keys(hosts)), ","), len(s.Routes), len(s.Policies))
	}
}

// sliceProtocol is how calls to a service are made: as configured, else as its
// instances declare it.
func sliceProtocol(s *apiv1.ServiceSlice) string {
	if p := s.GetConfig().GetProtocol(); p != apiv1.Protocol_PROTOCOL_UNSPECIFIED {
		return protocolWord(p)
	}
	for _, e := range s.Endpoints {
		return protocolWord(e.Protocol)
	}
	return ""
}

func protocolWord(p apiv1.Protocol) string { return enumWord(p.String(), "PROTOCOL_") }
func healthWord(h apiv1.Health) string     { return enumWord(h.String(), "HEALTH_") }

func listLocal(c *cli.Context, format format) error {
	return askHost(c, "list the services of this host", func(l *localCall) error {
		reply, err := l.local.LocalStatus(l.ctx, &apiv1.LocalStatusRequest{})
		if err != nil {
			return err
		}
		return printMessage(c, format, reply, func(t *table) { localServiceRows(t, reply.Services) })
	})
}

func localServiceRows(t *table, list []*apiv1.LocalService) {
	t.row("ID", "SERVICE", "PORT", "PROTOCOL", "UNIT", "HEALTH", "SOURCE", "CHECK")
	for _, s := range list {
		d := s.GetDeclaration()
		t.row(d.GetId(), d.GetName(), d.GetPort(), protocolWord(d.GetProtocol()), s.Unit, healthWord(s.Health), s.Source, shorten(s.CheckOutput, 60))
	}
}
