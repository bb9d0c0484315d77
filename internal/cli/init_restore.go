package cli

import (
	"bytes"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/agent"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/server"
	"github.com/meshd/meshd/store"
)

func restoreFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "restore", Usage: "found a mesh anew whose servers are all lost, from the snapshot `FILE`"},
		&cli.StringFlag{Name: "sealing-key", Usage: "with --restore: the `FILE` sealing.key of one of its servers"},
	}
}

// A legacy is what is left of a mesh whose servers are lost.
type legacy struct {
	path     string
	snapshot []byte
	info     *store.SnapshotInfo
	sealing  pki.SealingKey
}

// readLegacy is nil when a new mesh is to be made.
func readLegacy(c *cli.Context) (*legacy, error) {
	l := &legacy{path: c.String("restore")}
	key := c.String("sealing-key")
	switch {
	case l.path == "" && key == "":
		return nil, nil
	case l.path == "" || key == "":
		return nil, usagef(c, "--restore and --sealing-key go together: the snapshot holds the authority's keys sealed, and this key opens them")
	case c.String("cluster-name") != "" || c.String("trust-domain") != "" || c.String("ca-cert") != "":
		return nil, usagef(c, "a mesh that is restored has its name, trust domain and authority already")
	}
	return l, l.read(key)
}

func (l *legacy) read(key string) (err error) {
	if l.snapshot, err = os.ReadFile(l.path); err != nil {
		return &failure{what: "cannot open the snapshot", cause: err, effect: unchanged}
	}
	if l.info, err = store.InspectSnapshot(bytes.NewReader(l.snapshot)); err != nil {
		return badSnapshot(l.path, err)
	}
	text, err := pki.ReadSecret(key)
	if err == nil {
		l.sealing, err = pki.ParseSealingKey(text)
	}
	if err != nil {
		return &failure{what: "cannot use the sealing key", cause: err, effect: unchanged,
			next: "take the file sealing.key from the data directory of any server of the mesh, or from where you keep a copy of it"}
	}
	return nil
}

// keepsAgent reports whether this host's agent is a member of that mesh already,
// and stays one.
func (l *legacy) keepsAgent(dir string) bool {
	if l == nil {
		return false
	}
	m, err := agent.Joined(dir)
	return err == nil && m.ClusterID == l.info.ClusterID
}

// make fills the server's data directory: for a new mesh, or for one that goes on.
func (l *legacy) make(c server.Config, o server.InitOptions) error {
	if l == nil {
		if err := server.Init(c, o); err != nil {
			return &failure{what: "no new mesh was made", cause: err, effect: unchanged}
		}
		return nil
	}
	if _, err := server.Refound(c, bytes.NewReader(l.snapshot), l.sealing); err != nil {
		return &failure{what: "the mesh was not restored", cause: err, effect: unchanged}
	}
	return nil
}

// made says in words what was done.
func (l *legacy) made() string {
	if l == nil {
		return "made, with strict mutual TLS between all hosts"
	}
	return fmt.Sprintf("%s, as it was at index %d; its hosts come back when they reach this server", l.info.ClusterName, l.info.Index)
}
