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
	if c.GossipKeys != nil && w.FeatureLevel(nil) >= 2 {
		if err := w.setGossipKeys(&command.SetGossipKeys{Keys: c.GossipKeys}); err != nil {
			return err
		}
	}
	if err := w.checkServer(c.Server); err != nil {
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

// recover counts a recovery. The servers that it leaves behind are not asked,
// for they are lost, or must not come back.
func (w *writer) recover(c *command.Recover) error {
	known := w.Cluster(nil)
	switch {
	case c.Recovery == known.Recovery:
		return nil
	case c.Recovery != known.Recovery+1:
		return refuse(command.Refusal_REFUSAL_CONFLICT, "recovery %d of the mesh cannot follow on recovery %d", c.Recovery, known.Recovery)
	}
	stays := map[string]bool{}
	for _, id := range c.ServerIds {
		if w.Server(nil, id) == nil {
			return noServer(id)
		}
		stays[id] = true
	}
	if len(stays) == 0 {
		return invalid("recovery %d of the mesh names no server that stays", c.Recovery)
	}
	for _, s := range w.Servers(nil) {
		if !stays[s.Id] {
			w.dropServer(s, c.TimeUnix)
		}
	}
	next := proto.CloneOf(known)
	next.Recovery = c.Recovery
	w.put(clusterTable, next)
	return nil
}
