package cli

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func membersCommand() *cli.Command {
	return &cli.Command{
		Name:      "members",
		Usage:     "list the servers and hosts of the mesh",
		UsageText: "meshd members [--stale] [-o table|json|yaml]\n\nmeshd members -o json",
		Category:  look,
		Flags:     []cli.Flag{staleFlag(), outputFlag()},
		Action: func(c *cli.Context) error {
			format, err := noArguments(c)
			if err != nil {
				return err
			}
			return askMesh(c, "list the members", func(a *adminCall) error {
				reply, err := a.admin.Members(a.ctx, &apiv1.MembersRequest{Stale: c.Bool("stale")})
				if err != nil {
					return err
				}
				sortServers(reply.Servers)
				slices.SortFunc(reply.Nodes, func(a, b *apiv1.Node) int { return cmp.Compare(a.Name, b.Name) })
				return printMessage(c, format, reply, func(t *table) { memberRows(t, reply) })
			})
		},
	}
}

// sortServers puts servers in an order that people find them by; they come by
// their ids.
func sortServers(servers []*apiv1.ServerStatus) {
	slices.SortFunc(servers, func(a, b *apiv1.ServerStatus) int { return cmp.Compare(a.Name, b.Name) })
}

func memberRows(t *table, m *apiv1.MembersReply) {
	t.row("NAME", "KIND", "STATE", "ADDRESS", "VERSION")
	for _, s := range m.Servers {
		state := aliveWord(s.Alive)
		if s.Leader {
			state += ", leader"
		}
		t.row(s.Name, "server", state, s.Address, s.Version)
	}
	for _, n := range m.Nodes {
		address := net.JoinHostPort(n.Address, strconv.FormatUint(uint64(n.InboundPort), 10))
		t.row(n.Name, "host", nodeState(n.State), address, n.Version)
	}
}

func nodeState(s apiv1.NodeState) string { return enumWord(s.String(), "NODE_STATE_") }

// enumWord gives an enum's value as people write it.
func enumWord(value, prefix string) string {
	word := strings.ToLower(strings.TrimPrefix(value, prefix))
	if word == "unspecified" {
		return ""
	}
	return word
}
