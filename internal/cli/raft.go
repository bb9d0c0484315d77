package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func raftCommand() *cli.Command {
	return &cli.Command{
		Name:        "raft",
		Usage:       "see how the servers agree, remove one, or have another lead",
		UsageText:   "meshd raft peers|remove|transfer",
		Category:    look,
		Subcommands: []*cli.Command{raftPeersCommand(), raftRemoveCommand(), raftTransferCommand()},
	}
}

func raftPeersCommand() *cli.Command {
	return &cli.Command{
		Name:      "peers",
		Usage:     "show who votes, who leads and how well the servers are",
		UsageText: "meshd raft peers [-o table|json|yaml]\n\nmeshd raft peers -o json",
		Description: "As the leader sees it; without a leader as the answering server does. A server\n" +
			"is well when it answers, hears from the leader and is not far behind.",
		Flags: []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			format, err := noArguments(c)
			if err != nil {
				return err
			}
			return askMesh(c, "read how the servers are", func(a *adminCall) error {
				reply, err := a.admin.RaftPeers(a.ctx, &apiv1.RaftPeersRequest{})
				if err != nil {
					return err
				}
				slices.SortFunc(reply.Peers, func(a, b *apiv1.RaftPeer) int { return strings.Compare(a.Name, b.Name) })
				if format != formatTable {
					return printMessage(c, format, reply, nil)
				}
				return printPeers(c, reply)
			})
		},
	}
}

func printPeers(c *cli.Context, reply *apiv1.RaftPeersReply) error {
	peers, summary, problems := &table{}, &table{}, &table{}
	peers.row("SERVER", "ADDRESS", "ROLE", "HEALTH", "INDEX", "CONTACT", "VERSION")
	for _, p := range reply.Peers {
		contact := ""
		if p.LastContact != nil {
			contact = p.LastContact.AsDuration().Round(time.Millisecond).String()
		}
		peers.row(p.Name, p.Address, raftRole(p), raftHealth(p), p.LastIndex, contact, p.Version)
		if p.Problem != "" {
			problems.row(p.Name, p.Problem)
		}
	}
	summary.row("may be lost", spare(reply))
	summary.row("feature level", reply.FeatureLevel)
	return writeTables(c.App.Writer, peers, summary, problems)
}

// spare says how many voters may be lost.
func spare(reply *apiv1.RaftPeersReply) string {
	switch {
	case !slices.ContainsFunc(reply.Peers, (*apiv1.RaftPeer).GetLeader):
		return "none: there is no leader, and nothing can be changed until the servers elect one"
	case reply.FailureTolerance == 0:
		return "none: without one more voter nothing can be changed"
	}
	return fmt.Sprintf("%s, and writes go on", count(int(reply.FailureTolerance), "voter"))
}

func raftRole(p *apiv1.RaftPeer) string {
	switch {
	case p.Leader:
		return "leader"
	case p.Voter:
		return "voter"
	}
	return "no vote yet"
}

func raftHealth(p *apiv1.RaftPeer) string {
	switch {
	case p.Healthy:
		return "well"
	case p.Left:
		return "stopped"
	case p.Alive:
		return "not well"
	}
	return "dead"
}

func raftRemoveCommand() *cli.Command {
	return &cli.Command{
		Name:      "remove",
		Usage:     "take a server out of the mesh for good",
		UsageText: "meshd raft remove NAME [--force]\n\nmeshd raft remove vm3",
		Description: "For one that does not come back; on one that runs, meshd leave does it and clears\n" +
			"up. It learns of it as soon as it can, and takes no part any more. It is refused\n" +
			"when the others could then not lose one more, unless that is so already.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "remove it though the others would have no majority to spare"}},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef(c, "name one server, as meshd raft peers shows it")
			}
			name := c.Args().First()
			return changeMesh(c, "remove the server "+name, func(a *adminCall) error {
				if _, err := a.admin.RemoveServer(a.ctx, &apiv1.RemoveServerRequest{Name: name, Force: c.Bool("force")}); err != nil {
					return err
				}
				fmt.Fprintf(c.App.Writer, "server %s removed; it holds the keys of the mesh: if it is not in your hands, run meshd ca rotate and meshd keyring rotate\n", name)
				return nil
			})
		},
	}
}

func raftTransferCommand() *cli.Command {
	return &cli.Command{
		Name:      "transfer",
		Usage:     "have another server lead",
		UsageText: "meshd raft transfer [NAME]\n\nmeshd raft transfer vm2",
		Description: "Before work on the leader's host. Without a name the server that is furthest is\n" +
			"chosen. Stopping a server does this by itself.",
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usagef(c, "name one server, or none")
			}
			return changeMesh(c, "hand over leadership", func(a *adminCall) error {
				reply, err := a.admin.TransferLeadership(a.ctx, &apiv1.TransferLeadershipRequest{Name: c.Args().First()})
				if err != nil {
					return err
				}
				fmt.Fprintf(c.App.Writer, "%s leads\n", reply.Leader)
				return nil
			})
		},
	}
}
