package rpc

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// agentsTimeout bounds the question to the other servers: one that is slow must
// not make the answer about all the others late.
const agentsTimeout = time.Second

// Agents tells how far the agents of all servers have come, by host name, and
// names the servers that did not tell of theirs, in order.
func (s *Services) Agents(ctx context.Context) (agents []*apiv1.AgentStatus, silent []string) {
	agents, _, silent = s.askServers(ctx)
	return agents, silent
}

// askServers also asks how the servers fare with their scheduled snapshots.
func (s *Services) askServers(ctx context.Context) (agents []*apiv1.AgentStatus, backups []*apiv1.BackupStatus, silent []string) {
	ctx, cancel := context.WithTimeout(ctx, agentsTimeout)
	defer cancel()
	alive := map[string]bool{}
	for _, p := range s.cfg.Peers() {
		alive[p.ID] = p.Alive
	}
	all := newest{}
	all.add(s.cfg.Streams.Agents())
	backups = appendBackup(nil, s.cfg.Backup())
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, server := range s.replica.Local().Servers(nil) {
		if server.Id == s.replica.self {
			continue
		}
		asking.Go(func() {
			theirs, ok := s.askServer(ctx, server, alive[server.Id])
			mu.Lock()
			defer mu.Unlock()
			if !ok {
				silent = append(silent, server.Name)
			}
			all.add(theirs.GetAgents())
			backups = appendBackup(backups, theirs.GetBackup())
		})
	}
	asking.Wait()
	slices.Sort(silent)
	slices.SortFunc(backups, func(a, b *apiv1.BackupStatus) int { return cmp.Compare(a.Server, b.Server) })
	return all.sorted(), backups, silent
}

func appendBackup(list []*apiv1.BackupStatus, one *apiv1.BackupStatus) []*apiv1.BackupStatus {
	if one == nil {
		return list
	}
	return append(list, one)
}

// askServer does not ask a server that is not alive: its connection may look as
// if it were.
func (s *Services) askServer(ctx context.Context, server *apiv1.Server, alive bool) (*apiv1.PeerAgentsReply, bool) {
	if !alive {
		return nil, false
	}
	reply, err := s.replica.Agents(ctx, server.Address)
	if err != nil {
		s.log.Debug("a server did not tell of its agents", "server", server.Name, "error", err)
	}
	return reply, err == nil
}

// newest holds one status a host. One that moves between servers shows at both
// for a moment.
type newest map[string]*apiv1.AgentStatus

func (n newest) add(agents []*apiv1.AgentStatus) {
	for _, a := range agents {
		if known := n[a.GetNode()]; known == nil || known.Version < a.Version {
			n[a.GetNode()] = a
		}
	}
}

func (n newest) sorted() []*apiv1.AgentStatus {
	return slices.SortedFunc(maps.Values(n), func(a, b *apiv1.AgentStatus) int { return cmp.Compare(a.Node, b.Node) })
}

// Agents asks the server at an address how far the agents with a stream to it
// have come, and how its snapshots go.
func (r *Replica) Agents(ctx context.Context, address string) (*apiv1.PeerAgentsReply, error) {
	conn, err := r.peer(address)
	if err != nil {
		return nil, err
	}
	reply, err := apiv1.NewPeerClient(conn).Agents(ctx, &apiv1.PeerAgentsRequest{})
	if err != nil {
		return nil, fmt.Errorf("asking the server at %s for its agents: %s", address, plain(err))
	}
	return reply, nil
}

// Agents is answered by any server, of its own streams.
func (s *peerService) Agents(context.Context, *apiv1.PeerAgentsRequest) (*apiv1.PeerAgentsReply, error) {
	return &apiv1.PeerAgentsReply{Agents: s.streams.Agents(), Backup: s.backup()}, nil
}
