package cli

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
)

func membersCommand() *cli.Command {
	return &cli.Command{
		Name:        "members",
		Usage:       "list the servers and hosts of the mesh",
		UsageText:   "meshd members [--state STATE] [--prefix TEXT] [--stale] [-o table|json|yaml]\nmeshd members remove HOST [--force]\n\nmeshd members --state lost\nmeshd members -o json",
		Category:    look,
		Subcommands: []*cli.Command{membersRemoveCommand()},
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "state", Usage: "only hosts in this `STATE`: alive, lost or left"},
			&cli.StringFlag{Name: "prefix", Usage: "only hosts whose names begin with this `TEXT`"},
			staleFlag(), outputFlag(),
		},
		Action: func(c *cli.Context) error {
			format, err := noArguments(c)
			if err != nil {
				return err
			}
			state, ok := nodeStates[c.String("state")]
			if !ok {
				return usagef(c, "there is no state %q: hosts are alive, lost or left", c.String("state"))
			}
			request := &apiv1.MembersRequest{Stale: c.Bool("stale"), State: state, Prefix: c.String("prefix")}
			return askMesh(c, "list the members", func(a *adminCall) error {
				all, err := allMembers(a, request)
				if err != nil {
					return err
				}
				return printMessage(c, format, all, func(t *table) { memberRows(t, all) })
			})
		},
	}
}

func membersRemoveCommand() *cli.Command {
	return &cli.Command{
		Name:      "remove",
		Usage:     "forget a host and what ran on it",
		UsageText: "meshd members remove HOST [--force]\n\nmeshd members remove vm7",
		Description: "For a host that does not come back; on one that runs, meshd leave does it. It gets\n" +
			"no more certificates, and can join again with a new token only. For a server see\n" +
			"meshd raft remove.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "remove it though it is alive"}},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef(c, "name one host, as meshd members shows it")
			}
			name := c.Args().First()
			return changeMesh(c, "remove the host "+name, func(a *adminCall) error {
				if _, err := a.admin.RemoveHost(a.ctx, &apiv1.RemoveHostRequest{Name: name, Force: c.Bool("force")}); err != nil {
					return err
				}
				fmt.Fprintf(c.App.Writer, "host %s removed\n", name)
				return nil
			})
		},
	}
}

var nodeStates = map[string]apiv1.NodeState{
	"": apiv1.NodeState_NODE_STATE_UNSPECIFIED, "alive": apiv1.NodeState_NODE_STATE_ALIVE,
	"lost": apiv1.NodeState_NODE_STATE_LOST, "left": apiv1.NodeState_NODE_STATE_LEFT,
}

func allMembers(a *adminCall, request *apiv1.MembersRequest) (*apiv1.MembersReply, error) {
	all := &apiv1.MembersReply{}
	err := client.Pages(func(p *apiv1.Page) (string, error) {
		request.Page = p
		reply, err := a.admin.Members(a.ctx, request)
		all.Servers = reply.GetServers()
		all.Nodes = append(all.Nodes, reply.GetNodes()...)
		return reply.GetNext(), err
	})
	sortServers(all.Servers)
	return all, err
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
		if s.Left {
			state = "stopped"
		}
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
