package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/host"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/server"
)

func recoverCommand() *cli.Command {
	return &cli.Command{
		Name:      "recover",
		Usage:     "have this server go on alone after a majority of the servers was lost for good",
		UsageText: "meshd recover [--yes --name MESH] [--force]\n\nmeshd recover",
		Description: "To be run on the host of a stopped server, the one that has the newest state. Shows\n" +
			"what it holds and what may be lost, and asks. What the other servers hold is given\n" +
			"up: they are kept out from then on, and join anew with empty data directories. Hosts\n" +
			"carry on as they are.",
		Category: setUp,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do not ask; needs --name"},
			&cli.StringFlag{Name: "name", Usage: "with --yes: the mesh's `NAME`"},
			&cli.BoolFlag{Name: "force", Usage: "recover though a majority of the servers runs"},
		},
		Action: recoverAction,
	}
}

func recoverAction(c *cli.Context) error {
	if err := takesNoArguments(c); err != nil {
		return err
	}
	if err := requireRoot(c); err != nil {
		return err
	}
	file, err := config.LoadServer(config.DefaultServerFile)
	if err != nil {
		return configFailure(config.DefaultServerFile, err)
	}
	found, err := server.InspectRecovery(c.Context, file.DataDir, netx.System{})
	if err != nil {
		return &failure{what: "cannot look at what this server holds", cause: err, effect: unchanged, next: "if it runs, stop it first: systemctl stop " + host.ServerUnit}
	}
	if err := printRecovery(c, found); err != nil {
		return err
	}
	if err := allowRecovery(c, found); err != nil {
		return err
	}
	return recoverServer(c, file.DataDir)
}

func printRecovery(c *cli.Context, r *server.Recovery) error {
	t, held := &table{}, r.Contents
	last := "in its newest snapshot"
	if !held.LastTime.IsZero() {
		last = fmt.Sprintf("%s (%s ago)", held.LastTime.UTC().Format(time.RFC3339), time.Since(held.LastTime).Round(time.Second))
	}
	t.row("mesh", fmt.Sprintf("%s (id %s)", r.ClusterName, held.ClusterID))
	t.row("this server", r.Name)
	t.row("newest entry", fmt.Sprintf("%d, of %s", held.LastIndex, last))
	t.row("agreed on", fmt.Sprintf("up to %d, as far as this server knows", held.Committed))
	for _, m := range held.Members {
		t.row("member", fmt.Sprintf("%s (id %s)%s", m.Address, m.ID, answers(r, m.Address)))
	}
	if err := t.write(c.App.Writer); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "\nAt worst, every change is lost that was made after %s: the others may have agreed on\n"+
		"more than this server has heard of. If another server that is stopped has a newer entry,\n"+
		"recover on that one instead: meshd recover shows it there.\n"+
		"The other servers can never come back with what they hold. Hosts carry on.\n", last)
	return nil
}

func answers(r *server.Recovery, address string) string {
	for _, reachable := range r.Reachable {
		if reachable == address {
			return ", runs"
		}
	}
	return ""
}

func allowRecovery(c *cli.Context, r *server.Recovery) error {
	if r.Majority() && !c.Bool("force") {
		return &failure{what: "there is nothing to recover from", cause: errors.New(majority(r)), effect: unchanged,
			next: "start this server: systemctl start " + host.ServerUnit + "\nto give up what the others hold all the same: meshd recover --force"}
	}
	if c.Bool("yes") && c.String("name") != r.ClusterName {
		return &failure{what: "nothing was done", cause: errors.New("--yes needs the mesh's name, with --name"), effect: unchanged,
			next: "repeat it with: --yes --name " + r.ClusterName}
	}
	return confirm(c, r.ClusterName)
}

// majority says which servers are one, without the rest.
func majority(r *server.Recovery) string {
	if len(r.Reachable) == 0 {
		return "this server is the only one"
	}
	return "with this server, those at " + strings.Join(r.Reachable, ", ") + " are a majority"
}

func recoverServer(c *cli.Context, dataDir string) error {
	done, err := server.Recover(dataDir)
	if err != nil {
		return &failure{what: "the server was not recovered", cause: err, next: "mend that and repeat: meshd recover"}
	}
	h, err := host.New()
	if err == nil {
		err = h.Own(dataDir)
	}
	if err != nil {
		return &failure{what: "the server was recovered, and cannot read its files", cause: err, next: "chown -R meshd:meshd " + dataDir}
	}
	fmt.Fprintf(c.App.Writer, "\nrecovered: this server is the mesh from now on (recovery %d); what was there before is in %s\n"+
		"start it:                      systemctl start %s\n"+
		"on each other server's host:   move its data directory away, then meshd join --server TOKEN\n"+
		"a token for it, made here:     meshd token create --server\n", done.Recovery, done.Backup, host.ServerUnit)
	return nil
}
