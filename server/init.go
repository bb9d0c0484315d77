package server

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/internal/version"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/store/command"
)

// InitOptions name a new mesh. What is empty is made up.
type InitOptions struct {
	ClusterName string
	TrustDomain string
	// Authority is a certificate authority that was made elsewhere.
	Authority *pki.Bundle
}

// Init makes a new mesh with this server as its first one: it fills an empty
// data directory, and the mesh comes into being when the server is started.
// Nothing else ever makes one.
func Init(c Config, o InitOptions) error {
	if err := c.checkNamed(); err != nil {
		return err
	}
	o.TrustDomain = cmp.Or(o.TrustDomain, "mesh-"+randomHex(3))
	o.ClusterName = cmp.Or(o.ClusterName, o.TrustDomain)
	if err := mesh.CheckTrustDomain(o.TrustDomain); err != nil {
		return err
	}
	m, err := founder(c, o, time.Now())
	if err != nil {
		return fmt.Errorf("making the mesh: %w", err)
	}
	dir := dataDir(c.DataDir)
	if err := dir.claim(); err != nil {
		return err
	}
	return dir.write(m)
}

// founder is the first server of a new mesh, and the mesh.
func founder(c Config, o InitOptions, now time.Time) (*member, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	m := &member{
		record:  record{ID: randomHex(8), Name: c.Name, ClusterID: randomHex(8), ClusterName: o.ClusterName, TrustDomain: o.TrustDomain},
		key:     key,
		sealing: pki.NewSealingKey(),
		gossip:  []gossip.Key{gossip.NewKey()},
	}
	if m.authority, err = m.vault().Create(m.TrustDomain, o.Authority, now); err != nil {
		return nil, err
	}
	m.roots = ca.Roots(m.authority)
	authority, err := m.vault().Open(m.authority)
	if err != nil {
		return nil, err
	}
	signed, err := m.signSelf(authority)
	if err != nil {
		return nil, err
	}
	m.chain = signed.Chain
	m.init = &command.InitCluster{
		Cluster: &apiv1.Cluster{
			Id: m.ClusterID, Name: m.ClusterName, TrustDomain: m.TrustDomain, CreatedUnix: now.Unix(), FeatureLevel: c.featureLevel(),
		},
		Authority: m.authority,
		Server: &apiv1.Server{
			Id: m.ID, Name: m.Name, Address: c.Advertise, GossipAddress: c.GossipAdvertise, KeyHash: signed.KeyHash,
			Version: version.Version(), FeatureLevel: c.featureLevel(),
		},
	}
	if c.featureLevel() >= gossipKeysLevel {
		m.init.GossipKeys = &apiv1.GossipKeys{Sealed: m.Seal(m.gossip), RotatedUnix: now.Unix()}
	}
	return m, nil
}

func (m *member) vault() ca.Vault { return ca.Vault{ClusterID: m.ClusterID, Key: m.sealing} }

// signSelf renews the server's own certificate. Any server can, for it has the
// sealing key; so it is never locked out, however long it was down.
func (m *member) signSelf(authority *ca.Authority) (*ca.Signed, error) {
	csr, err := pki.NewCSR(m.key)
	if err != nil {
		return nil, err
	}
	return authority.Sign(csr, mesh.ServerIdentity(m.TrustDomain, m.Name), certificateTTL)
}

// certificateTTL is how long a server's own certificate is valid.
const certificateTTL = 24 * time.Hour

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
