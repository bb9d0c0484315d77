package rpc

import (
	"context"
	"fmt"
	"sync"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/store/state"
)

// Census asks all servers how far they and the agents with a stream to them have
// taken over the mesh's certificate authority.
func (s *Services) Census(ctx context.Context) ca.Census {
	ctx, cancel := context.WithTimeout(ctx, agentsTimeout)
	defer cancel()
	c := ca.Census{Servers: map[string]ca.Standing{s.replica.self: s.cfg.Standing()}, Hosts: map[string]ca.Standing{}}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, server := range s.replica.Local().Servers(nil) {
		if server.Id == s.replica.self {
			continue
		}
		asking.Go(func() {
			standing, err := s.replica.Standing(ctx, server.Id, server.Address)
			if err != nil {
				s.log.Debug("a server did not tell of its authority", "server", server.Name, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			c.Servers[server.Id] = standing
		})
	}
	agents, _ := s.Agents(ctx)
	for _, a := range agents {
		c.Hosts[a.Node] = ca.Standing{Index: a.Version, Generation: a.AuthorityGeneration}
	}
	asking.Wait()
	return c
}

// Standing asks the server with that id and address how far it has taken over the
// mesh's certificate authority.
func (r *Replica) Standing(ctx context.Context, id, address string) (s ca.Standing, err error) {
	conn, err := r.peer(address)
	if err != nil {
		return s, err
	}
	reply, err := apiv1.NewPeerClient(conn).Progress(ctx, &apiv1.ProgressRequest{})
	if err != nil {
		return s, fmt.Errorf("asking the server at %s: %s", address, plain(err))
	}
	if reply.GetId() != id {
		return s, fmt.Errorf("the server at %s is %s, not %s", address, reply.GetId(), id)
	}
	return ca.Standing{Index: reply.GetAuthorityIndex(), Generation: reply.GetAuthorityGeneration()}, nil
}

// membersOf are all who have to do with the authority.
func membersOf(txn *state.Txn) ca.Members {
	config, _ := txn.MeshConfig(nil)
	return ca.Members{Servers: txn.Servers(nil), Nodes: txn.Nodes(nil), Mesh: config}
}
