package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/state"
)

// A caller is who makes a call.
type caller struct {
	role   role
	name   string      // host/NAME, server/NAME, user/UID, token/ID
	source string      // where the call came from
	uid    *uint32     // when it calls over the unix socket
	node   *apiv1.Node // when it is a host
	bearer bool        // when it bears an access token
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
	c, err := s.identify(ctx, method)
	if err != nil {
		return nil, err
	}
	c.source = sourceOf(ctx)
	if err := s.limitChanges(c, method); err != nil {
		return nil, err
	}
	return context.WithValue(ctx, callerKey{}, c), nil
}

func (s *Services) identify(ctx context.Context, method string) (*caller, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if text, ok := shownToken(md); ok {
		return s.bearer(ctx, text, method)
	}
	c := claimant(ctx)
	if err := s.allow(c, method); err != nil || c.role&(host|server) == 0 {
		return c, err
	}
	id, _ := grpcx.PeerIdentity(ctx)
	if c.role == server {
		if err := s.cfg.Kin.check(ctx, c.name); err != nil {
			return nil, err
		}
	}
	return s.member(ctx, id)
}

// precheck is what can be told of a call without waiting.
func (s *Services) precheck(ctx context.Context, md metadata.MD, method string) error {
	text, ok := shownToken(md)
	if !ok {
		return s.allow(claimant(ctx), method)
	}
	c, err := authenticate(s.replica.Local(), text, time.Now())
	switch {
	case errors.Is(err, errUnknownToken):
		return s.tooManyFailures(ctx) // it may be new: admit asks the leader
	case err != nil:
		return s.failed(ctx, err)
	}
	grpcx.Trust(ctx)
	return s.allow(c, method)
}

func (s *Services) allow(c *caller, method string) error {
	err := authorise(c, method)
	if err != nil {
		s.metrics.refused("permission")
		s.refusals.Warn("call refused", "method", printable(method), "caller", c.name, "reason", printable(plain(err)))
	}
	return err
}

// limitChanges holds bearers of access tokens to a rate of changes. Root on a
// server's host is held to none: it could stop the server as well.
func (s *Services) limitChanges(c *caller, method string) error {
	if !c.bearer || mayCall(method)&viewer != 0 {
		return nil
	}
	if wait := s.changes.take(c.name, time.Now()); wait > 0 {
		s.metrics.limited("change")
		return grpcx.Later(wait, "%s makes more than %d changes a second", c.name, changeRate)
	}
	return nil
}

// claimant is who a caller shows itself to be. Whether the bearer of a host's or
// a server's certificate is still a member is for the state to say.
func claimant(ctx context.Context) *caller {
	if uid, ok := grpcx.PeerUID(ctx); ok {
		c := &caller{role: stranger, name: fmt.Sprintf("user/%d", uid), uid: &uid}
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
	pronounce(ctx, Removed)
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
