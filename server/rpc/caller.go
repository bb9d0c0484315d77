package rpc

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/state"
)

// A caller is who makes a call.
type caller struct {
	role role
	name string      // for logs: host/NAME, server/NAME, user UID
	uid  *uint32     // when it calls over the unix socket
	node *apiv1.Node // when it is a host
}

type callerKey struct{}

// callerOf is the caller of an authorised call.
func callerOf(ctx context.Context) *caller { return ctx.Value(callerKey{}).(*caller) }

// Node is the host that makes an authorised call of a method for hosts.
func Node(ctx context.Context) (*apiv1.Node, error) {
	if c := callerOf(ctx); c.node != nil {
		return c.node, nil
	}
	return nil, status.Error(codes.PermissionDenied, "the caller is no host")
}

// admit finds out who calls and whether it may, and gives the context of the call.
func (s *Services) admit(ctx context.Context, method string) (context.Context, error) {
	c := claimant(ctx)
	if err := s.allow(c, method); err != nil {
		return nil, err
	}
	if c.role&(host|server) != 0 {
		id, _ := grpcx.PeerIdentity(ctx)
		var err error
		if c, err = s.member(ctx, id); err != nil {
			return nil, err
		}
	}
	return context.WithValue(ctx, callerKey{}, c), nil
}

func (s *Services) allow(c *caller, method string) error {
	err := authorise(c, method)
	if err != nil {
		s.refusals.Warn("call refused", "method", printable(method), "caller", c.name, "reason", printable(plain(err)))
	}
	return err
}

// claimant is who a caller shows itself to be. Whether the bearer of a host's or
// a server's certificate is still a member is for the state to say.
func claimant(ctx context.Context) *caller {
	if uid, ok := grpcx.PeerUID(ctx); ok {
		c := &caller{role: stranger, name: fmt.Sprintf("user %d", uid), uid: &uid}
		if uid == 0 || int(uid) == os.Getuid() {
			c.role = administrator
		}
		return c
	}
	id, ok := grpcx.PeerIdentity(ctx)
	switch {
	case !ok:
		return &caller{role: stranger, name: "stranger"}
	case id.Kind == mesh.KindService:
		return &caller{role: service, name: id.Short()}
	case id.Kind == mesh.KindServer:
		return &caller{role: server, name: id.Short()}
	}
	return &caller{role: host, name: id.Short()}
}

// member checks that the bearer of a certificate still belongs to the mesh.
// Members that this server has not heard of may be new; the leader knows.
func (s *Services) member(ctx context.Context, id mesh.Identity) (*caller, error) {
	key, _ := grpcx.PeerKeyHash(ctx)
	if c := findMember(s.replica.Local(), id, key[:]); c != nil {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, identifyTimeout)
	defer cancel()
	txn, err := s.replica.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	if c := findMember(txn, id, key[:]); c != nil {
		return c, nil
	}
	return nil, status.Errorf(codes.PermissionDenied, "%s is no member of the mesh with that key: it was removed, or another has its name; join it again with a new token", id.Short())
}

// identifyTimeout bounds the wait for a leader before a stranger is let go.
const identifyTimeout = 5 * time.Second

// findMember gives the caller with an identity and key, nil if the state has
// none.
func findMember(txn *state.Txn, id mesh.Identity, key []byte) *caller {
	if id.Kind == mesh.KindHost {
		if node := txn.NodeByName(nil, id.Name); node != nil && bytes.Equal(node.KeyHash, key) {
			return &caller{role: host, name: id.Short(), node: node}
		}
		return nil
	}
	for _, member := range txn.Servers(nil) {
		if member.Name == id.Name && bytes.Equal(member.KeyHash, key) {
			return &caller{role: server, name: id.Short()}
		}
	}
	return nil
}
