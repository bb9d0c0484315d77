package rpc

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/jointoken"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

const (
	defaultTokenTTL = time.Hour
	maxTokenTTL     = 90 * 24 * time.Hour
	maxAllowed      = 100 // names, and as many services
)

// CreateToken makes a join token. Its secret is in the reply and nowhere else.
func (s *admin) CreateToken(ctx context.Context, r *apiv1.CreateTokenRequest) (*apiv1.CreateTokenReply, error) {
	ttl, err := checkTokenRequest(r)
	if err != nil {
		return nil, err
	}
	if r.GetServer() && callerOf(ctx).role&admins == 0 {
		return nil, status.Error(codes.PermissionDenied, "a token for servers hands out the keys of the mesh: only an administrator may make one (role admin)")
	}
	token, err := s.newToken(r, time.Now().Add(ttl))
	if err != nil {
		return nil, err
	}
	_, err = s.change(ctx, "token create", []string{object("token", token.ID)}, &command.PutToken{Token: &apiv1.Token{
		Id: token.ID, SecretHash: jointoken.SecretHash(token.Secret[:]), Server: r.Server,
		AllowedServices: r.AllowedServices, AllowedNames: r.AllowedNames,
		ExpiresUnix: token.Expires.Unix(), Reusable: r.Reusable, WholeCatalogue: r.WholeCatalogue,
	}})
	if err != nil {
		return nil, err
	}
	return &apiv1.CreateTokenReply{Token: token.Encode(), Id: token.ID, ExpiresUnix: token.Expires.Unix()}, nil
}

func (s *admin) newToken(r *apiv1.CreateTokenRequest, expires time.Time) (*jointoken.Token, error) {
	authority, err := s.cfg.Authority()
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "creating a join token: %v", err)
	}
	txn := s.replica.Local()
	cluster := txn.Cluster(nil)
	if cluster == nil { // the token would name no mesh
		return nil, status.Error(codes.Unavailable, "creating a join token: this server has not got the mesh's state yet: try again in a few seconds")
	}
	token := &jointoken.Token{
		Addresses: addresses(txn), Pin: authority.Pin(), ID: newID(),
		TrustDomain: cluster.TrustDomain, Expires: expires, Server: r.Server,
	}
	rand.Read(token.Secret[:]) // never fails
	return token, nil
}

// addresses are the TLS ports of all servers.
func addresses(txn *state.Txn) (list []string) {
	for _, server := range txn.Servers(nil) {
		list = append(list, server.Address)
	}
	return list
}

func checkTokenRequest(r *apiv1.CreateTokenRequest) (ttl time.Duration, err error) {
	ttl = defaultTokenTTL
	if r.GetTtl() != nil {
		ttl = r.Ttl.AsDuration()
	}
	switch {
	case r.GetTtl().CheckValid() != nil && r.GetTtl() != nil, ttl < time.Second, ttl > maxTokenTTL:
		return 0, status.Errorf(codes.InvalidArgument, "a join token lives 1 s to %d days", maxTokenTTL/(24*time.Hour))
	case r.GetServer() && len(r.GetAllowedServices()) > 0:
		return 0, status.Error(codes.InvalidArgument, "a server runs no services: leave the allowed services out")
	case r.GetServer() && r.GetReusable():
		return 0, status.Error(codes.InvalidArgument, "a token for servers hands out the keys of the mesh and is for one use: make one for each server")
	}
	if n := max(len(r.GetAllowedServices()), len(r.GetAllowedNames())); n > maxAllowed {
		return 0, status.Errorf(codes.InvalidArgument, "a join token with %d names or services is too long: %d is the most", n, maxAllowed)
	}
	for _, pattern := range r.GetAllowedServices() {
		if !isPattern(pattern) {
			return 0, status.Errorf(codes.InvalidArgument, "%q is no service: write a name, the beginning of one and *, or *", pattern)
		}
	}
	for _, name := range r.GetAllowedNames() {
		if err := mesh.CheckName(name); err != nil {
			return 0, status.Errorf(codes.InvalidArgument, "allowed host: %v", err)
		}
	}
	return ttl, nil
}

func (s *admin) RevokeToken(ctx context.Context, r *apiv1.RevokeTokenRequest) (*apiv1.RevokeTokenReply, error) {
	if _, err := s.change(ctx, "token revoke", []string{object("token", r.GetId())}, &command.RemoveToken{Id: r.GetId()}); err != nil {
		return nil, err
	}
	return &apiv1.RevokeTokenReply{}, nil
}

func isPattern(s string) bool {
	stem, open := strings.CutSuffix(s, "*")
	if open {
		stem += "x" // what begins a name need not be one
	}
	return mesh.CheckName(stem) == nil
}
