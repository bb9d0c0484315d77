package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/accesstoken"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/store/state"
)

// shownToken gives the text of the access token that comes with a call; ok is
// false when none does. Who shows anything is judged by it alone.
func shownToken(md metadata.MD) (text string, ok bool) {
	values := md.Get("authorization")
	if len(values) == 0 {
		return "", false
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "bearer") {
		return "", true
	}
	return text, true
}

// errUnknownToken says that a token is not in the state that was looked at.
var errUnknownToken = status.Error(codes.Unauthenticated, "the access token is not known to the mesh, or has been revoked: an administrator makes one with: meshd access create")

// authenticate gives the caller that bears a token. A wrong secret is the same
// as a wrong id, and takes as long.
func authenticate(txn *state.Txn, text string, now time.Time) (*caller, error) {
	shown, err := accesstoken.Parse(text)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	token := txn.AccessToken(nil, shown.ID)
	hash := token.GetSecretHash()
	if token == nil {
		hash = make([]byte, sha256.Size)
	}
	same := subtle.ConstantTimeCompare(shown.SecretHash(), hash) == 1
	switch {
	case token == nil || !same:
		return nil, errUnknownToken
	case token.ExpiresUnix != 0 && now.Unix() >= token.ExpiresUnix:
		return nil, status.Error(codes.Unauthenticated, "the access token has expired: an administrator makes one with: meshd access create")
	}
	return &caller{role: roleOf(token.Role), name: "token/" + token.Id, bearer: true}, nil
}

// roleOf gives what the bearer of a token with that role is: nobody, when a newer
// version knows more roles.
func roleOf(r apiv1.Role) role {
	switch r {
	case apiv1.Role_ROLE_VIEWER:
		return viewer
	case apiv1.Role_ROLE_OPERATOR:
		return operator
	case apiv1.Role_ROLE_ADMIN:
		return administrator
	}
	return stranger
}

// bearer admits who shows an access token. A token may be newer than this
// server's state, and for changes it counts that it is not revoked by now.
func (s *Services) bearer(ctx context.Context, text, method string) (*caller, error) {
	c, err := authenticate(s.replica.Local(), text, time.Now())
	unknown := errors.Is(err, errUnknownToken)
	if err != nil && !unknown {
		return nil, s.failed(ctx, err)
	}
	if !unknown {
		if err := s.allow(c, method); err != nil {
			return nil, err
		}
	}
	if unknown || mayCall(method)&viewer == 0 {
		if c, err = s.authenticateNow(ctx, text, unknown); err != nil {
			return nil, err
		}
	}
	grpcx.Trust(ctx)
	return c, s.allow(c, method)
}

// authenticateNow is authenticate by the state as of now, which costs the leader
// something: who has failed too often is not worth it.
func (s *Services) authenticateNow(ctx context.Context, text string, unknown bool) (*caller, error) {
	if unknown {
		if err := s.tooManyFailures(ctx); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, identifyTimeout)
	defer cancel()
	txn, err := s.replica.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	c, err := authenticate(txn, text, time.Now())
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return c, nil
}

// failed counts and logs a failed attempt to authenticate, and gives the error
// that the caller gets.
func (s *Services) failed(ctx context.Context, err error) error {
	s.metrics.refused("authentication")
	source := sourceOf(ctx)
	if wait := s.failures.take(source, time.Now()); wait > 0 {
		return s.later(wait)
	}
	s.refusals.Warn("authentication failed", "source", source, "reason", plain(err))
	return err
}

func (s *Services) tooManyFailures(ctx context.Context) error {
	if wait := s.failures.ask(sourceOf(ctx), time.Now()); wait > 0 {
		return s.later(wait)
	}
	return nil
}

func (s *Services) later(wait time.Duration) error {
	s.metrics.limited("authentication")
	return grpcx.Later(wait, "too many attempts to authenticate have failed")
}
