package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store"
	"github.com/meshd/meshd/store/state"
)

func snapshotRestoreCommand() *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "bring back what a snapshot holds, on all servers",
		UsageText: "meshd snapshot restore FILE [--yes] [--other-mesh]\n\nmeshd snapshot restore /var/backups/mesh.snapshot",
		Description: "Resources become exactly what they were, all at once, and hosts that were removed\n" +
			"since come back. Servers, certificates, tokens, hosts that joined since and the\n" +
			"record of changes stay as they are. Says what is going to change and asks first.\n" +
			"For a mesh without servers see meshd init --restore.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
			&cli.BoolFlag{Name: "other-mesh", Usage: "take the resources of another mesh's snapshot"},
		},
		Action: snapshotRestoreAction,
	}
}

func snapshotRestoreAction(c *cli.Context) error {
	if c.NArg() != 1 || c.Args().First() == "-" {
		return usagef(c, "%s takes one file", c.Command.HelpName)
	}
	path := c.Args().First()
	saved, err := os.ReadFile(path)
	if err != nil {
		return &failure{what: "cannot open the snapshot", cause: err, effect: unchanged}
	}
	was, info, err := readState(saved)
	if err != nil {
		return badSnapshot(path, err)
	}
	is, err := presentState(c)
	if err != nil {
		return err
	}
	name := is.Cluster(nil).GetName()
	if other := info.ClusterID != is.Cluster(nil).GetId(); other && !c.Bool("other-mesh") {
		return &failure{what: "the snapshot is of another mesh", cause: fmt.Errorf("it is of %s (id %s), and this is %s (id %s)", info.ClusterName, info.ClusterID, name, is.Cluster(nil).GetId()),
			effect: unchanged, next: "to take over its resources alone: " + c.Command.HelpName + " --other-mesh " + path}
	}
	if err := printRestore(c, info, was, is); err != nil {
		return err
	}
	if err := confirm(c, name); err != nil {
		return err
	}
	return restore(c, saved)
}

func readState(saved []byte) (*state.Txn, *store.SnapshotInfo, error) {
	info, snapshot, err := store.ReadSnapshot(bytes.NewReader(saved))
	if err != nil {
		return nil, nil, err
	}
	return snapshot.Read(), info, nil
}

// presentState is the mesh's state as of now.
func presentState(c *cli.Context) (*state.Txn, error) {
	var saved bytes.Buffer
	if err := saveTo(c, &saved); err != nil {
		return nil, err
	}
	txn, _, err := readState(saved.Bytes())
	return txn, err
}

// printRestore says what is going to change.
func printRestore(c *cli.Context, info *store.SnapshotInfo, was, is *state.Txn) error {
	t := &table{}
	t.row("snapshot", fmt.Sprintf("of %s, taken %s at index %d", info.ClusterName, info.Time.Format(time.RFC3339), info.Index))
	d := compareResources(was, is)
	t.row("resources", fmt.Sprintf("%d now, %d then: %d come back, %d change, %d go", len(is.Resources(nil, "")), len(was.Resources(nil, "")), len(d.back), len(d.change), len(d.gone)))
	for _, part := range []struct {
		what string
		keys []string
	}{{"come back", d.back}, {"change", d.change}, {"go", d.gone}} {
		if len(part.keys) > 0 {
			t.row("", part.what+": "+shorten(strings.Join(part.keys, ", "), 200))
		}
	}
	hosts := "stay as they are"
	if back := returning(was, is); info.ClusterID == is.Cluster(nil).GetId() && len(back) > 0 {
		hosts = "come back: " + strings.Join(back, ", ") + " (removed since; their agents are let in again)"
	}
	t.row("hosts", hosts)
	return t.write(c.App.Writer)
}

// A resourceDiff names resources, as in route/orders-canary.
type resourceDiff struct{ back, change, gone []string }

func compareResources(was, is *state.Txn) (d resourceDiff) {
	for _, r := range was.Resources(nil, "") {
		key := mesh.KeyOf(r)
		switch now := is.Resource(nil, key.Kind, key.Name); {
		case now == nil:
			d.back = append(d.back, key.Kind+"/"+key.Name)
		case !sameResource(r, now):
			d.change = append(d.change, key.Kind+"/"+key.Name)
		}
	}
	for _, r := range is.Resources(nil, "") {
		if key := mesh.KeyOf(r); was.Resource(nil, key.Kind, key.Name) == nil {
			d.gone = append(d.gone, key.Kind+"/"+key.Name)
		}
	}
	return d
}

func sameResource(a, b *apiv1.Resource) bool {
	a = proto.CloneOf(a)
	a.Version = b.Version
	return proto.Equal(a, b)
}

// returning are the hosts that the present state has no more.
func returning(was, is *state.Txn) (names []string) {
	for _, n := range was.Nodes(nil) {
		if is.Node(nil, n.Id) == nil && is.NodeByName(nil, n.Name) == nil {
			names = append(names, n.Name)
		}
	}
	return names
}

// confirm has the mesh's name typed.
func confirm(c *cli.Context, name string) error {
	if c.Bool("yes") {
		return nil
	}
	fmt.Fprintf(c.App.Writer, "\nTo go on, type the name of the mesh (%s): ", name)
	line, err := bufio.NewReader(c.App.Reader).ReadString('\n')
	if strings.TrimSpace(line) == name {
		return nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return &failure{what: "nothing was done", cause: fmt.Errorf("%q is not the name of the mesh", strings.TrimSpace(line)), effect: unchanged,
		next: "repeat the command and type " + name + ", or add --yes in a script"}
}

func restore(c *cli.Context, saved []byte) error {
	return streamMesh(c, "restore the snapshot", true, func(a *adminCall) error {
		stream, err := a.admin.RestoreSnapshot(a.ctx)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(saved, 256<<10) {
			// Why it cannot be sent, the answer says.
			if stream.Send(&apiv1.RestoreSnapshotRequest{Data: part, OtherMesh: c.Bool("other-mesh")}) != nil {
				break
			}
		}
		reply, err := stream.CloseAndRecv()
		if err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "restored at index %d\n", reply.Index)
		return nil
	})
}
