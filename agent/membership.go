package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/meshd/meshd/internal/atomicfile"
	"github.com/meshd/meshd/internal/mesh"
)

// A Membership is what a host became by joining a mesh.
type Membership struct {
	ClusterID   string `json:"cluster_id"`
	ClusterName string `json:"cluster_name"`
	TrustDomain string `json:"trust_domain"`
	NodeID      string `json:"node_id"`
	Name        string `json:"name"` // of the host
	Address     string `json:"address"`
	// Servers that are known, host:port.
	Servers []string `json:"servers"`
	// Roots are the trust anchors (DER) of the time of joining; newer ones come
	// with the slice.
	Roots [][]byte `json:"roots"`
}

func (m *Membership) identity() mesh.Identity { return mesh.HostIdentity(m.TrustDomain, m.Name) }

// ErrNotJoined says that the host belongs to no mesh yet.
var ErrNotJoined = errors.New("this host has not joined a mesh: make a token on a server host with meshd token create, then run meshd join TOKEN here")

func membershipPath(dir string) string { return filepath.Join(dir, "identity.json") }

// Joined reads what the host with that data folder is a member of, or gives
// ErrNotJoined.
func Joined(dir string) (*Membership, error) {
	b, err := os.ReadFile(membershipPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotJoined
	}
	if err != nil {
		return nil, fmt.Errorf("reading what mesh this host is in: %w", err)
	}
	m := &Membership{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w; join again after removing %s", membershipPath(dir), err, dir)
	}
	if _, err := mesh.ParseIdentity(m.identity().String()); err != nil || m.NodeID == "" || m.ClusterID == "" {
		return nil, fmt.Errorf("%s is damaged: it names no host of a mesh; join again after removing %s", membershipPath(dir), dir)
	}
	return m, nil
}

func (m *Membership) save(dir string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding what mesh this host is in: %w", err)
	}
	return atomicfile.Write(membershipPath(dir), append(b, '\n'), 0o600)
}
