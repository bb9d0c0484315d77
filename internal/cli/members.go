package cli

import (
	"net"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func membersCommand() *cli.Command {
	return &cli.Command{
		Name:      "members",
		Usage:     "list the servers and hosts of the mesh",
		UsageText: "meshd members [-o table|json|yaml]\n\nmeshd members -o json",
		Category:  look,
		Flags:     []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			format, err := noArguments(c)
			if err != nil {
				return err
			}
			return withAdmin(c, "list the members", func(a *adminCall) error {
				reply, err := a.admin.Members(a.ctx, &apiv1.MembersRequest{})
				if err != nil {
					return err
				}
				return printMessage(c, format, reply, func(t *table) { memberRows(t, reply) })
			})
		},
	}
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
