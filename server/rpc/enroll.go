package rpc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/netip"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/jointoken"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// maxVersion bounds the name of an agent's version.
const maxVersion = 64

// enroll lets hosts and servers in.
type enroll struct {
	apiv1.UnimplementedEnrollServer
	*Services
}

func (s *enroll) Join(ctx context.Context, r *apiv1.JoinRequest) (*apiv1.JoinReply, error) {
	source := sourceOf(ctx)
	if wait := s.joins.take(source, time.Now()); wait > 0 {
		s.metrics.limited("join")
		return nil, grpcx.Later(wait, "too many hosts try to join at this moment")
	}
	reply, err := s.join(ctx, r)
	if err != nil {
		s.log.Warn("join refused", "token", printable(r.GetTokenId()), "name", printable(r.GetName()), "source", source, "reason", plain(err))
		return nil, err
	}
	s.log.Info("joined", "token", r.TokenId, "name", r.Name, "id", reply.Id, "server", r.Server != nil, "source", source)
	return reply, nil
}

func (s *enroll) join(ctx context.Context, r *apiv1.JoinRequest) (*apiv1.JoinReply, error) {
	txn, err := s.replica.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkToken(txn, r, time.Now()); err != nil {
		return nil, err
	}
	cluster := txn.Cluster(nil)
	signed, err := s.signJoiner(txn, r, cluster.TrustDomain)
	if err != nil {
		return nil, err
	}
	entry, err := s.recorded(joiner(ctx, r), "join", []string{joined(r)}, admission(r, signed.KeyHash, time.Now()))
	if err != nil {
		return nil, err
	}
	result, err := s.propose(ctx, entry)
	if err != nil {
		return nil, err
	}
	reply := &apiv1.JoinReply{
		ClusterId: cluster.Id, ClusterName: cluster.Name, TrustDomain: cluster.TrustDomain,
		Id: result.Id, Chain: signed.Chain, Roots: ca.Roots(txn.Authority(nil)),
		AuthorityGeneration: signed.Generation,
		Servers:             addresses(s.replica.Local()),
	}
	if r.Server != nil {
		reply.Server = s.cfg.Secrets()
	}
	return reply, nil
}

// joiner is who joins, as records have it: the bearer of a token that holds.
func joiner(ctx context.Context, r *apiv1.JoinRequest) *caller {
	c := *callerOf(ctx)
	c.name = object("join-token", r.TokenId)
	return &c
}

// joined names what a request is to make.
func joined(r *apiv1.JoinRequest) string {
	if r.Server != nil {
		return object("server", r.Name)
	}
	return object("host", r.Name)
}

// checkToken says no more of a token than the one who shows it knows: a wrong
// secret is the same as a wrong id.
func checkToken(txn *state.Txn, r *apiv1.JoinRequest, now time.Time) error {
	token := txn.Token(nil, r.GetTokenId())
	hash := token.GetSecretHash()
	if token == nil {
		hash = make([]byte, sha256.Size) // compared all the same, to take as long
	}
	known := subtle.ConstantTimeCompare(jointoken.SecretHash(r.GetSecret()), hash) == 1 && token != nil
	switch {
	case !known:
		return status.Error(codes.PermissionDenied, "the join token is not known to the mesh, or has been revoked: make a new one on a server host with: meshd token create")
	case now.Unix() >= token.ExpiresUnix:
		return status.Error(codes.PermissionDenied, "the join token expired: make a new one on a server host with: meshd token create")
	case r.Server != nil && !token.Server:
		return status.Error(codes.PermissionDenied, "the join token is for hosts: for a server, make one with: meshd token create --server")
	}
	return nil
}

// signJoiner makes the certificate before anything is written, so that a
// request that cannot be met does not use up a token.
func (s *enroll) signJoiner(txn *state.Txn, r *apiv1.JoinRequest, trustDomain string) (*ca.Signed, error) {
	if err := mesh.CheckName(r.GetName()); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "joining: %v", err)
	}
	if len(r.GetVersion()) > maxVersion {
		return nil, status.Errorf(codes.InvalidArgument, "joining: the version is longer than %d characters", maxVersion)
	}
	authority, err := s.cfg.Authority()
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "joining: %v", err)
	}
	id := mesh.HostIdentity(trustDomain, r.Name)
	if r.Server != nil {
		id = mesh.ServerIdentity(trustDomain, r.Name)
	}
	config, _ := txn.MeshConfig(nil)
	signed, err := authority.Sign(r.GetCsr(), id, mesh.EffectiveCertificateTTL(config))
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "joining: %v", err)
	}
	return signed, nil
}

// admission is the command that lets the sender of a request in.
func admission(r *apiv1.JoinRequest, keyHash []byte, now time.Time) proto.Message {
	if r.Server != nil {
		return &command.PutServer{TokenId: r.TokenId, TimeUnix: now.Unix(), Server: &apiv1.Server{
			Id: newID(), Name: r.Name, KeyHash: keyHash,
			Address: r.Server.Address, GossipAddress: r.Server.GossipAddress,
			Version: r.Version, FeatureLevel: r.Server.FeatureLevel,
		}}
	}
	return &command.PutNode{TokenId: r.TokenId, TimeUnix: now.Unix(), Node: &apiv1.Node{
		Id: newID(), Name: r.Name, KeyHash: keyHash,
		Address: r.Address, InboundPort: r.InboundPort, Version: r.Version,
	}}
}

func newID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// sourceOf is where a call comes from, without the port.
func sourceOf(ctx context.Context) string {
	if _, local := grpcx.PeerUID(ctx); local {
		return "unix"
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return p.Addr.String()
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() && !ip.Is4In6() {
		// One host has a whole network of IPv6 addresses.
		prefix, _ := ip.Prefix(64)
		return prefix.String()
	}
	return host
}

// printable bounds what a stranger gets into the log.
func printable(s string) string { return s[:min(len(s), 64)] }
