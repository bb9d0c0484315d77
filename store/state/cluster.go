package state

import (
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/command"
)

func (w *writer) initCluster(c *command.InitCluster) error {
	if there := w.Cluster(nil); there != nil {
		return refuse(command.Refusal_REFUSAL_EXISTS, "this is the mesh %q already (id %s): to have another, use a server with an empty data directory", there.Name, there.Id)
	}
	if err := checkCluster(c.Cluster); err != nil {
		return err
	}
	w.put(clusterTable, proto.CloneOf(c.Cluster))
	if err := w.putAuthority(&command.PutAuthority{Authority: c.Authority}); err != nil {
		return err
	}
	if err := checkServer(c.Server); err != nil {
		return err
	}
	return w.addServer(c.Server)
}

func checkCluster(c *apiv1.Cluster) error {
	if err := checkID("cluster id", c.GetId()); err != nil {
		return err
	}
	return errorIn(mesh.CheckTrustDomain(c.GetTrustDomain()), "cluster %s", c.GetId())
}

func (w *writer) putAuthority(c *command.PutAuthority) error {
	a := proto.CloneOf(c.Authority)
	if err := checkAuthority(a, w.Cluster(nil).TrustDomain); err != nil {
		return err
	}
	if there := w.Authority(nil); there != nil {
		a.ModifyIndex = there.ModifyIndex
		if proto.Equal(a, there) {
			return nil
		}
	}
	a.ModifyIndex = w.index
	w.put(authorityTable, a)
	return nil
}

func checkAuthority(a *apiv1.Authority, trustDomain string) error {
	if got := a.GetTrustDomain(); got != trustDomain {
		return invalid("the certificate authority is for trust domain %q, and the mesh has %q", got, trustDomain)
	}
	if len(a.RootCertificate) == 0 || len(a.IssuingCertificate) == 0 || len(a.SealedIssuingKey) == 0 {
		return invalid("the certificate authority lacks its root certificate, its issuing certificate or the issuing key")
	}
	return nil
}

// putServer admits a server. Without a token it changes what is known of one
// that was admitted before, told by its id and key.
func (w *writer) putServer(c *command.PutServer) error {
	s := c.Server
	if err := checkServer(s); err != nil {
		return err
	}
	known := w.serverByKey(s.KeyHash)
	if c.TokenId != "" || known == nil || known.Id != s.Id {
		join := joining{token: c.TokenId, name: s.Name, key: s.KeyHash, server: true, time: c.TimeUnix}
		if _, err := w.admit(join); err != nil {
			return err
		}
	}
	if known == nil {
		return w.addServer(s)
	}
	return w.updateServer(known, s)
}

func (w *writer) addServer(s *apiv1.Server) error {
	if other := w.Server(nil, s.Id); other != nil {
		return refuse(command.Refusal_REFUSAL_EXISTS, "server id %s belongs to %q already", s.Id, other.Name)
	}
	if other := first[*apiv1.Server](&w.Txn, nil, serverTable, byName, text(s.Name)); other != nil {
		return refuse(command.Refusal_REFUSAL_EXISTS, "there is a server %q already (id %s): give this one another name, or remove the other with meshd raft remove if it is gone for good", s.Name, other.Id)
	}
	s = proto.CloneOf(s)
	s.CreateIndex = w.index
	w.put(serverTable, s)
	w.result.Id = s.Id
	return nil
}

func (w *writer) updateServer(known, s *apiv1.Server) error {
	w.result.Id = known.Id
	if known.Name != s.Name {
		return refuse(command.Refusal_REFUSAL_EXISTS, "this server is a member as %q already (id %s): to give it another name, remove it with meshd raft remove first", known.Name, known.Id)
	}
	s = proto.CloneOf(s)
	s.Id, s.CreateIndex = known.Id, known.CreateIndex
	if !proto.Equal(s, known) {
		w.put(serverTable, s)
	}
	return nil
}

func (w *writer) serverByKey(hash []byte) *apiv1.Server {
	return first[*apiv1.Server](&w.Txn, nil, serverTable, byKey, hash)
}

func checkServer(s *apiv1.Server) error {
	if err := checkID("server id", s.GetId()); err != nil {
		return err
	}
	if err := mesh.CheckName(s.GetName()); err != nil {
		return errorIn(err, "server %s", s.GetId())
	}
	if err := checkHostPort(s.GetAddress()); err != nil {
		return errorIn(err, "server %q", s.GetName())
	}
	if err := checkHostPort(s.GetGossipAddress()); err != nil {
		return errorIn(err, "gossip of server %q", s.GetName())
	}
	return checkHash("server's key", s.GetKeyHash())
}

// removeServer also ends the leases that the server held, since nobody else
// would.
func (w *writer) removeServer(c *command.RemoveServer) error {
	s := w.Server(nil, c.Id)
	if s == nil {
		return refuse(command.Refusal_REFUSAL_NOT_FOUND, "there is no server with id %q", c.Id)
	}
	if len(w.Servers(nil)) == 1 {
		return invalid("server %q is the last one: without it there is no mesh", s.Name)
	}
	w.remove(serverTable, s)
	for _, n := range w.Nodes(nil) {
		if n.LeaseServer == s.Id {
			w.endLeaseOf(n, apiv1.NodeState_NODE_STATE_LOST)
		}
	}
	return nil
}
