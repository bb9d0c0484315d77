package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/mesh"
)

// errDiffers is the way to exitDiffers.
var errDiffers = errors.New("something would change")

func diffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "show what applying files would change",
		UsageText: "meshd diff -f FILE [-f FILE]... [--exit-code]\n\nmeshd diff -f orders.yaml",
		Description: "Compares the resources of the files with those of the mesh, line by line. It takes\n" +
			"the right to read; to have the servers check the files too: meshd apply --dry-run",
		Category: configure,
		Flags: []cli.Flag{filesFlag(),
			&cli.BoolFlag{Name: "exit-code", Usage: "end with exit status 3 when something would change"}},
		Action: diffAction,
	}
}

func diffAction(c *cli.Context) error {
	docs, err := readResources(c)
	if err != nil {
		return err
	}
	var current map[mesh.ResourceKey]*apiv1.Resource
	err = askMesh(c, "read the mesh's configuration", func(a *adminCall) (err error) {
		current, err = allResources(a)
		return err
	})
	if err != nil {
		return err
	}
	changed := 0
	for _, doc := range docs {
		differs, err := writeDiff(c.App.Writer, current[mesh.KeyOf(doc.Resource)], doc.Resource)
		if err != nil {
			return err
		}
		if differs {
			changed++
		}
	}
	if changed == 0 {
		writeLine(c, "nothing would change")
	} else if c.Bool("exit-code") {
		return errDiffers
	}
	return nil
}

func allResources(a *adminCall) (map[mesh.ResourceKey]*apiv1.Resource, error) {
	all := map[mesh.ResourceKey]*apiv1.Resource{}
	err := client.Pages(func(p *apiv1.Page) (string, error) {
		reply, err := a.admin.GetResources(a.ctx, &apiv1.GetResourcesRequest{Page: p})
		for _, r := range reply.GetResources() {
			all[mesh.KeyOf(r)] = r
		}
		return reply.GetNext(), err
	})
	return all, err
}

// writeDiff writes what would become of a resource, and says whether anything
// would. old is nil for one that is not there.
func writeDiff(w io.Writer, old, new *apiv1.Resource) (differs bool, err error) {
	key := mesh.KeyOf(new)
	before, err := plainText(old)
	if err != nil {
		return false, err
	}
	after, err := plainText(new)
	if err != nil {
		return false, err
	}
	stale := new.Version != 0 && new.Version != old.GetVersion()
	if strings.Join(before, "\n") == strings.Join(after, "\n") && !stale {
		return false, nil
	}
	from := "not there"
	if old != nil {
		from = fmt.Sprintf("version %d", old.Version)
	}
	fmt.Fprintf(w, "--- %s %s (%s)\n+++ %s %s (file)\n", key.Kind, key.Name, from, key.Kind, key.Name)
	if stale {
		fmt.Fprintf(w, "!   the file was made from version %d: applying it will be refused\n", new.Version)
	}
	for _, line := range diffLines(before, after) {
		fmt.Fprintln(w, printable(line))
	}
	return true, nil
}

// plainText is a resource as its file has it, without its version.
func plainText(r *apiv1.Resource) ([]string, error) {
	if r == nil {
		return nil, nil
	}
	r = proto.CloneOf(r)
	r.Version = 0
	text, err := config.EncodeResource(r)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), nil
}
