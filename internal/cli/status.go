package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"google.golang.org/grpc/codes"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show how the mesh and this host's agent are doing",
		UsageText: "meshd status [-o table|json|yaml]\n\nmeshd status -o json",
		Description: "Shows the mesh as a server sees it and, where an agent runs, this host's part\n" +
			"in it. The agent's part is shown though no server answers.",
		Category: look,
		Flags:    []cli.Flag{outputFlag()},
		Action:   statusAction,
	}
}

func statusAction(c *cli.Context) error {
	format, err := noArguments(c)
	if err != nil {
		return err
	}
	mesh, meshErr := meshStatus(c)
	sortServers(mesh.GetServers())
	// Without a mesh the host's part is worth showing; without an agent on a
	// server host, the mesh.
	local, localErr := localStatus(c)
	if mesh == nil && local == nil {
		return cmp.Or(meshErr, localErr)
	}
	if err := printStatus(c, format, mesh, local); err != nil {
		return err
	}
	return meshErr
}

func meshStatus(c *cli.Context) (reply *apiv1.StatusReply, err error) {
	err = askMesh(c, "read the status of the mesh", func(a *adminCall) error {
		reply, err = a.admin.Status(a.ctx, &apiv1.StatusRequest{})
		return err
	})
	var f *failure
	if errors.As(err, &f) && f.code == codes.Unavailable {
		f.effect = "calls and names go on with what each host has; changes wait"
		f.next = "see on the servers' hosts why: journalctl -u meshd-server -n 50"
	}
	return reply, err
}

func localStatus(c *cli.Context) (reply *apiv1.LocalStatusReply, err error) {
	err = askHost(c, "read the status of this host's agent", func(l *localCall) error {
		reply, err = l.local.LocalStatus(l.ctx, &apiv1.LocalStatusRequest{})
		return err
	})
	return reply, err
}

func printStatus(c *cli.Context, format format, mesh *apiv1.StatusReply, local *apiv1.LocalStatusReply) error {
	if format != formatTable {
		data, err := statusJSON(mesh, local)
		if err != nil {
			return err
		}
		return printData(c.App.Writer, format, data)
	}
	summary, servers, agents := &table{}, &table{}, &table{}
	if mesh != nil {
		meshRows(summary, mesh)
		serverRows(servers, mesh.Servers)
		problemRows(agents, mesh.Agents)
	}
	if local != nil {
		localRows(summary, local)
	}
	return writeTables(c.App.Writer, summary, servers, agents)
}

// statusJSON is the mesh's status with the host's added as its member "local".
func statusJSON(mesh *apiv1.StatusReply, local *apiv1.LocalStatusReply) ([]byte, error) {
	var parts [][]byte
	if mesh != nil {
		data, err := messageJSON(mesh)
		if err != nil {
			return nil, err
		}
		parts = append(parts, bytes.TrimSuffix(bytes.TrimPrefix(data, []byte("{")), []byte("}")))
	}
	if local != nil {
		data, err := messageJSON(local)
		if err != nil {
			return nil, err
		}
		parts = append(parts, append([]byte(`"local":`), data...))
	}
	return append(append([]byte("{"), bytes.Join(parts, []byte(","))...), '}'), nil
}

func meshRows(t *table, s *apiv1.StatusReply) {
	alive, leader := 0, "none: nothing can be changed until the servers elect one"
	for _, server := range s.Servers {
		if server.Alive {
			alive++
		}
		if server.Leader {
			leader = server.Name
		}
	}
	t.row("mesh", fmt.Sprintf("%s (trust domain %s, id %s)", s.GetCluster().GetName(), s.GetCluster().GetTrustDomain(), s.GetCluster().GetId()))
	t.row("servers", fmt.Sprintf("%d of %d alive, leader: %s", alive, len(s.Servers), leader))
	t.row("hosts", fmt.Sprintf("%d of %d alive", s.NodesAlive, s.Nodes))
	t.row("services", fmt.Sprintf("%d, with %d of %d instances passing", s.Services, s.InstancesPassing, s.Instances))
	if len(s.SilentServers) > 0 {
		t.row("", "problems of hosts that are connected to "+strings.Join(s.SilentServers, ", ")+" are not known: it did not answer in time")
	}
	for _, b := range s.Backups {
		t.row("snapshots", backupText(b, time.Now()))
	}
	if s.Problem != "" {
		t.row("problem", s.Problem)
	}
	t.row("state", fmt.Sprintf("index %d, answered by version %s", s.Index, s.Version))
}

// backupText says how a server fares with its scheduled snapshots.
func backupText(b *apiv1.BackupStatus, now time.Time) string {
	last := "none made yet"
	if b.LastUnix != 0 {
		last = "the last " + now.Sub(time.Unix(b.LastUnix, 0)).Round(time.Minute).String() + " ago"
	}
	if b.Problem != "" {
		last += "; FAILING: " + b.Problem
	}
	return fmt.Sprintf("%s in %s: %s", b.Server, b.Dir, last)
}

func localRows(t *table, s *apiv1.LocalStatusReply) {
	server := "connected to server " + s.Server
	if s.Server == "" {
		server = "not connected to a server"
	}
	t.row("this host", fmt.Sprintf("%s, version %s, %s", s.Node, s.Version, server))
	t.row("", fmt.Sprintf("mesh configuration %d in force, %s declared", s.SliceVersion, count(len(s.Services), "service")))
	if s.ServicesNamed > 0 {
		t.row("", fmt.Sprintf("knows %s that it runs or uses, and %d more by name", count(int(s.ServicesKnown), "service"), s.ServicesNamed))
	}
	for _, problem := range s.Problems {
		t.row("problem", problem)
	}
}

func serverRows(t *table, servers []*apiv1.ServerStatus) {
	t.row("SERVER", "ADDRESS", "ROLE", "STATE", "VERSION")
	for _, s := range servers {
		t.row(s.Name, s.Address, serverRole(s), aliveWord(s.Alive), s.Version)
	}
}

func serverRole(s *apiv1.ServerStatus) string {
	switch {
	case s.Leader:
		return "leader"
	case s.Voter:
		return "voter"
	}
	return "non-voter"
}

func aliveWord(alive bool) string {
	if alive {
		return "alive"
	}
	return "failed"
}

// problemRows lists agents that could not put all of their configuration to
// work; the others are in good order and need no line.
func problemRows(t *table, agents []*apiv1.AgentStatus) {
	for _, a := range agents {
		if len(a.Problems) == 0 {
			continue
		}
		if len(t.rows) == 0 {
			t.row("AGENT", "CONFIGURATION", "PROBLEM")
		}
		t.row(a.Node, a.Version, strings.Join(a.Problems, "; "))
	}
}
