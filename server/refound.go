package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/internal/version"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/store"
	"github.com/meshd/meshd/store/state"
)

// Refound makes a mesh anew, all of whose servers are lost, from a snapshot and
// the key that its servers sealed their secrets with. It fills an empty data
// directory; the mesh goes on when the server is started. Hosts come back by
// themselves if they reach it at an address that they know a server by.
func Refound(c Config, snapshot io.Reader, sealing pki.SealingKey) (*store.SnapshotInfo, error) {
	if err := c.checkNamed(); err != nil {
		return nil, err
	}
	info, saved, err := store.ReadSnapshot(snapshot)
	if err != nil {
		return nil, err
	}
	m, err := heir(c, info, saved.Read(), sealing)
	if err != nil {
		return nil, fmt.Errorf("founding the mesh %s anew: %w", info.ClusterName, err)
	}
	dir := dataDir(c.DataDir)
	if err := dir.claim(); err != nil {
		return nil, err
	}
	r, err := m.refounding(c, info, time.Now())
	if err != nil {
		return nil, err
	}
	if err := store.Refound(dir.file(raftDir), c.Advertise, info, saved, r); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir.file(raftDir)))
	}
	return info, dir.write(m)
}

// heir is the first server of a mesh that is founded anew.
func heir(c Config, info *store.SnapshotInfo, txn *state.Txn, sealing pki.SealingKey) (*member, error) {
	if c.featureLevel() < info.FeatureLevel {
		return nil, fmt.Errorf("it is at feature level %d, and this version of meshd knows level %d: use meshd %s or newer", info.FeatureLevel, c.featureLevel(), info.Version)
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	m := &member{
		record: record{
			ID: randomHex(8), Name: c.Name, ClusterID: info.ClusterID, ClusterName: info.ClusterName,
			TrustDomain: info.TrustDomain, Recovery: info.Recovery + 1,
		},
		key: key, sealing: sealing, gossip: []gossip.Key{gossip.NewKey()}, authority: txn.Authority(nil),
	}
	if m.authority == nil {
		return nil, errors.New("the snapshot holds no certificate authority")
	}
	authority, err := m.vault().Open(m.authority)
	if err != nil {
		return nil, fmt.Errorf("the sealing key is not that of this mesh's servers: %w", err)
	}
	m.roots = ca.Roots(m.authority)
	signed, err := m.signSelf(authority)
	if err != nil {
		return nil, err
	}
	m.chain = signed.Chain
	return m, nil
}

func (m *member) refounding(c Config, info *store.SnapshotInfo, now time.Time) (state.Refounding, error) {
	leaf, err := pki.Certificate(m.chain, m.key)
	if err != nil {
		return state.Refounding{}, err
	}
	hash := pki.Pin(leaf.Leaf)
	r := state.Refounding{
		Index: store.RefoundIndex(info), TimeUnix: now.Unix(),
		Server: &apiv1.Server{
			Id: m.ID, Name: m.Name, Address: c.Advertise, GossipAddress: c.GossipAdvertise, KeyHash: hash[:],
			Version: version.Version(), FeatureLevel: c.featureLevel(),
		},
	}
	if info.FeatureLevel >= gossipKeysLevel {
		r.Record = &apiv1.AuditRecord{
			TimeUnixNano: now.UnixNano(), Actor: "server/" + m.Name, Role: apiv1.Role_ROLE_ADMIN, Server: m.Name,
			Action: "mesh refound", Objects: []string{"snapshot/" + info.SHA256},
		}
		r.GossipKeys = &apiv1.GossipKeys{Sealed: m.Seal(m.gossip), RotatedUnix: now.Unix()}
	}
	return r, nil
}
