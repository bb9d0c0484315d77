package state

import (
	"bytes"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/command"
)

// putServer admits a server. Without a token it changes what is known of one
// that was admitted before, told by its id and key.
func (w *writer) putServer(c *command.PutServer) error {
	s := c.Server
	if err := w.checkServer(s); err != nil {
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

func (w *writer) checkServer(s *apiv1.Server) error {
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
	if err := checkHash("server's key", s.GetKeyHash()); err != nil {
		return err
	}
	return w.checkServerLevel(s)
}

// checkServerLevel keeps out a server that would meet entries and rows that it
// does not know.
func (w *writer) checkServerLevel(s *apiv1.Server) error {
	if has, needs := levelOf(s), w.FeatureLevel(nil); has < needs {
		return refuse(command.Refusal_REFUSAL_FEATURE_LEVEL, "server %q runs meshd %s, which knows feature level %d, and the mesh is at level %d: update that server", s.Name, versionOf(s), has, needs)
	}
	return nil
}

// correctServer takes a server's word for what it runs and where it is.
func (w *writer) correctServer(c *command.UpdateServer) error {
	s := proto.CloneOf(c.Server)
	known := w.Server(nil, s.GetId())
	if known == nil {
		return noServer(s.GetId())
	}
	if len(s.KeyHash) == 0 {
		s.KeyHash = known.KeyHash
	}
	if !bytes.Equal(s.KeyHash, known.KeyHash) {
		return invalid("server %q has another key than the one it was admitted with", known.Name)
	}
	if err := w.checkServer(s); err != nil {
		return err
	}
	return w.updateServer(known, s)
}

func (w *writer) removeServer(c *command.RemoveServer) error {
	s := w.Server(nil, c.Id)
	if s == nil {
		return noServer(c.Id)
	}
	if len(w.Servers(nil)) == 1 {
		return invalid("server %q is the last one: without it there is no mesh", s.Name)
	}
	w.dropServer(s, c.TimeUnix)
	return nil
}

// dropServer also ends the leases that the server held, since nobody else would.
func (w *writer) dropServer(s *apiv1.Server, time int64) {
	w.remove(serverTable, s)
	for _, n := range w.Nodes(nil) {
		if n.LeaseServer == s.Id {
			w.endLeaseOf(n, apiv1.NodeState_NODE_STATE_LOST, time)
		}
	}
}

func noServer(id string) error {
	return refuse(command.Refusal_REFUSAL_NOT_FOUND, "there is no server with id %q", id)
}
