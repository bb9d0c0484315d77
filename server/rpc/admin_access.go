package rpc

import (
	"context"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/accesstoken"
	"github.com/meshd/meshd/store/command"
)

const (
	defaultAccessTTL = 90 * 24 * time.Hour
	maxAccessTTL     = 10 * 365 * 24 * time.Hour
	maxDescription   = 200 // characters
)

// CreateAccessToken makes an access token. Its secret is in the reply and nowhere
// else.
func (s *admin) CreateAccessToken(ctx context.Context, r *apiv1.CreateAccessTokenRequest) (*apiv1.CreateAccessTokenReply, error) {
	ttl, err := checkAccessRequest(r)
	if err != nil {
		return nil, err
	}
	authority, err := s.cfg.Authority()
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "creating an access token: %v", err)
	}
	token := accesstoken.New(newID(), s.replica.Local().Cluster(nil).GetTrustDomain(), authority.Pin())
	now := time.Now()
	kept := &apiv1.AccessToken{
		Id: token.ID, SecretHash: token.SecretHash(), Role: r.Role, Description: r.Description,
		CreatedBy: callerOf(ctx).name, CreatedUnix: now.Unix(),
	}
	if ttl > 0 {
		kept.ExpiresUnix = now.Add(ttl).Unix()
	}
	if _, err := s.change(ctx, "access create", []string{object("access", token.ID)}, &command.PutAccessToken{Token: kept}); err != nil {
		return nil, err
	}
	return &apiv1.CreateAccessTokenReply{Token: token.Encode(), Id: token.ID, ExpiresUnix: kept.ExpiresUnix}, nil
}

// checkAccessRequest gives the life of the token, 0 for good.
func checkAccessRequest(r *apiv1.CreateAccessTokenRequest) (ttl time.Duration, err error) {
	ttl = defaultAccessTTL
	if r.GetTtl() != nil {
		ttl = r.Ttl.AsDuration()
	}
	switch {
	case roleOf(r.GetRole()) == stranger:
		return 0, status.Error(codes.InvalidArgument, "an access token has the role viewer, operator or admin")
	case r.GetTtl() != nil && r.GetTtl().CheckValid() != nil, ttl != 0 && ttl < time.Second, ttl > maxAccessTTL:
		return 0, status.Errorf(codes.InvalidArgument, "an access token lives 1 s to %d days, or for good with 0", maxAccessTTL/(24*time.Hour))
	case len([]rune(r.GetDescription())) > maxDescription:
		return 0, status.Errorf(codes.InvalidArgument, "the description is longer than %d characters", maxDescription)
	case strings.ContainsFunc(r.GetDescription(), func(c rune) bool { return !unicode.IsPrint(c) }):
		return 0, status.Error(codes.InvalidArgument, "the description has characters that cannot be shown: write one plain line")
	}
	return ttl, nil
}

// ListAccessTokens shows all access tokens, and nothing by which one could be
// used.
func (s *admin) ListAccessTokens(ctx context.Context, r *apiv1.ListAccessTokensRequest) (*apiv1.ListAccessTokensReply, error) {
	txn, err := s.replica.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	tokens, next, err := page(r.GetPage(), txn.AccessTokens(nil), (*apiv1.AccessToken).GetId, func(t *apiv1.AccessToken) *apiv1.AccessToken {
		t = proto.CloneOf(t)
		t.SecretHash = nil
		return t
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.ListAccessTokensReply{Tokens: tokens, Next: next}, nil
}

// RevokeAccessToken ends what the token gives, at once.
func (s *admin) RevokeAccessToken(ctx context.Context, r *apiv1.RevokeAccessTokenRequest) (*apiv1.RevokeAccessTokenReply, error) {
	if _, err := s.change(ctx, "access revoke", []string{object("access", r.GetId())}, &command.RemoveAccessToken{Id: r.GetId()}); err != nil {
		return nil, err
	}
	return &apiv1.RevokeAccessTokenReply{}, nil
}
