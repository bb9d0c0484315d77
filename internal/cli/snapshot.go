package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/server/backup"
	"github.com/meshd/meshd/store"
)

// snapshotTimeout bounds what takes as long as a mesh is large.
const snapshotTimeout = 30 * time.Minute

func snapshotCommand() *cli.Command {
	return &cli.Command{
		Name:        "snapshot",
		Usage:       "save, inspect or restore the mesh's state",
		UsageText:   "meshd snapshot save|inspect|restore",
		Category:    configure,
		Subcommands: []*cli.Command{snapshotSaveCommand(), snapshotInspectCommand(), snapshotRestoreCommand()},
	}
}

func snapshotSaveCommand() *cli.Command {
	return &cli.Command{
		Name:      "save",
		Usage:     "write the mesh's state to a file, while it goes on",
		UsageText: "meshd snapshot save FILE|- [--stale]\n\nmeshd snapshot save /var/backups/mesh.snapshot",
		Description: "The file holds everything but the servers' own keys: resources, services, hosts,\n" +
			"hashes of tokens, and the authority's private keys, which only the servers' sealing\n" +
			"key opens. It is readable by its owner alone, checked after it was written, and\n" +
			"takes the place of an older one in one step. - writes to the standard output.",
		Flags: []cli.Flag{staleFlag(), outputFlag()},
		Action: func(c *cli.Context) error {
			path, format, err := oneFile(c)
			if err != nil {
				return err
			}
			if path == "-" {
				return saveTo(c, c.App.Writer)
			}
			info, err := backup.Write(path, func(w io.Writer) error { return saveTo(c, w) })
			if err != nil {
				return saveFailure(path, err)
			}
			return printSnapshot(c, format, info)
		},
	}
}

// oneFile is the one argument.
func oneFile(c *cli.Context) (path string, f format, err error) {
	if c.NArg() != 1 {
		return "", "", usagef(c, "%s takes one file, or -", c.Command.HelpName)
	}
	f, err = outputFormat(c)
	return c.Args().First(), f, err
}

// saveFailure lets an answer of the mesh speak for itself.
func saveFailure(path string, err error) error {
	var f *failure
	if errors.As(err, &f) {
		return err
	}
	return &failure{what: "cannot save a snapshot to " + path, cause: err, effect: "there is no new snapshot; one that was there before is as it was"}
}

// saveTo writes a snapshot as the mesh sends it.
func saveTo(c *cli.Context, w io.Writer) error {
	return streamMesh(c, "save a snapshot", false, func(a *adminCall) error {
		stream, err := a.admin.SaveSnapshot(a.ctx, &apiv1.SaveSnapshotRequest{Stale: c.Bool("stale")})
		if err != nil {
			return err
		}
		for {
			chunk, err := stream.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if _, err := w.Write(chunk.Data); err != nil {
				return &failure{what: "cannot save a snapshot", cause: err}
			}
		}
	})
}

// streamMesh is askMesh and changeMesh for calls that take long.
func streamMesh(c *cli.Context, doing string, change bool, call func(*adminCall) error) error {
	return withMesh(c, snapshotTimeout, func(ctx context.Context, cl *client.Client) error {
		return hintStale(c, remoteFailure(c, rpcFailure(doing, change, call(&adminCall{ctx, cl.Admin()}))))
	})
}

func snapshotInspectCommand() *cli.Command {
	return &cli.Command{
		Name:        "inspect",
		Usage:       "check a snapshot and say what is in it",
		UsageText:   "meshd snapshot inspect FILE|- [-o table|json|yaml]\n\nmeshd snapshot inspect /var/backups/mesh.snapshot",
		Description: "Needs no mesh. Every byte is read, and whatever is damaged is refused.",
		Flags:       []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			path, format, err := oneFile(c)
			if err != nil {
				return err
			}
			info, err := inspectFile(c, path)
			if err != nil {
				return err
			}
			return printSnapshot(c, format, info)
		},
	}
}

func inspectFile(c *cli.Context, path string) (*store.SnapshotInfo, error) {
	in := c.App.Reader
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, &failure{what: "cannot open the snapshot", cause: err}
		}
		defer f.Close()
		in = f
	}
	info, err := store.InspectSnapshot(bufio.NewReader(in))
	if err != nil {
		return nil, badSnapshot(path, err)
	}
	return info, nil
}

func badSnapshot(path string, err error) error {
	return &failure{what: "the snapshot " + path + " cannot be used", cause: err, next: "take another snapshot; see whether one is good: meshd snapshot inspect FILE"}
}

// snapshotFacts are what is shown of a snapshot.
type snapshotFacts struct {
	Mesh         string         `json:"mesh"`
	ClusterID    string         `json:"cluster_id"`
	TrustDomain  string         `json:"trust_domain"`
	Index        uint64         `json:"index"`
	Term         uint64         `json:"term"`
	Time         time.Time      `json:"time"`
	Version      string         `json:"version"`
	FeatureLevel uint32         `json:"feature_level"`
	Size         int64          `json:"size"`
	SHA256       string         `json:"sha256"`
	Rows         map[string]int `json:"rows"`
}

func printSnapshot(c *cli.Context, format format, info *store.SnapshotInfo) error {
	facts := snapshotFacts{
		Mesh: info.ClusterName, ClusterID: info.ClusterID, TrustDomain: info.TrustDomain, Index: info.Index, Term: info.Term, Time: info.Time,
		Version: info.Version, FeatureLevel: info.FeatureLevel, Size: info.Size, SHA256: info.SHA256, Rows: info.Rows,
	}
	if format != formatTable {
		return printJSON(c, format, facts)
	}
	t := &table{}
	t.row("mesh", fmt.Sprintf("%s (trust domain %s, id %s)", facts.Mesh, facts.TrustDomain, facts.ClusterID))
	t.row("taken", fmt.Sprintf("%s, at index %d", facts.Time.Format(time.RFC3339), facts.Index))
	t.row("by", fmt.Sprintf("meshd %s, feature level %d", facts.Version, facts.FeatureLevel))
	t.row("holds", rowsText(facts.Rows))
	t.row("size", fmt.Sprintf("%d bytes", facts.Size))
	t.row("checked", "whole and sound, SHA-256 "+facts.SHA256)
	return t.write(c.App.Writer)
}

// rowsText names what there is some of, but not what a mesh always has once.
func rowsText(rows map[string]int) string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(rows)) {
		switch kind {
		case "marks", "cluster", "authority", "gossip_keys":
			continue
		}
		parts = append(parts, count(rows[kind], strings.ReplaceAll(kind, "_", " ")))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
