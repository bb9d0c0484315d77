package server_test

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/accesstoken"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/meshtest"
)

// bearing puts a token into every call of a connection.
type bearing struct {
	grpc.ClientConnInterface
	header string
}

func (b bearing) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return b.ClientConnInterface.Invoke(metadata.AppendToOutgoingContext(ctx, "authorization", b.header), method, args, reply, opts...)
}

func (b bearing) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return b.ClientConnInterface.NewStream(metadata.AppendToOutgoingContext(ctx, "authorization", b.header), desc, method, opts...)
}

// accessToken makes one on the leader.
func accessToken(t *testing.T, m *meshtest.Mesh, r *apiv1.CreateAccessTokenRequest) (text, id string) {
	t.Helper()
	reply, err := m.Leader().Admin().CreateAccessToken(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return reply.Token, reply.Id
}

// bearer calls a server from a host that has nothing but a token.
func bearer(t *testing.T, from *memnet.Host, s *meshtest.Server, text string) grpc.ClientConnInterface {
	t.Helper()
	token, err := accesstoken.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return withHeader(t, from, s, token, "Bearer "+text)
}

func withHeader(t *testing.T, from *memnet.Host, s *meshtest.Server, token *accesstoken.Token, header string) grpc.ClientConnInterface {
	t.Helper()
	conn, err := grpcx.DialPinned(from, s.Address(), token.TrustDomain, token.Pin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return bearing{conn, header}
}

func TestWhatAccessTokensAllow(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		laptop := m.Host("laptop")
		f := func(role apiv1.Role, want string) {
			t.Helper()
			text, id := accessToken(t, m, &apiv1.CreateAccessTokenRequest{Role: role})
			for _, s := range m.Servers {
				conn := bearer(t, laptop, s, text)
				if got := refused(t, conn, codes.PermissionDenied, "token/"+id+" may not ask for"); got != want {
					t.Errorf("%v is refused %q, want %q", role, got, want)
				}
			}
		}
		f(apiv1.Role_ROLE_VIEWER, writes+" "+admins+" "+agents+" "+peers)
		f(apiv1.Role_ROLE_OPERATOR, admins+" "+agents+" "+peers)
		f(apiv1.Role_ROLE_ADMIN, agents+" "+peers)
	})
}

func TestOperatorsMakeNoTokensForServers(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		text, _ := accessToken(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_OPERATOR})
		admin := apiv1.NewAdminClient(bearer(t, m.Host("laptop"), m.Leader(), text))
		if _, err := admin.CreateToken(t.Context(), &apiv1.CreateTokenRequest{}); err != nil {
			t.Errorf("a token for a host: %v", err)
		}
		_, err := admin.CreateToken(t.Context(), &apiv1.CreateTokenRequest{Server: true})
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "only an administrator") {
			t.Errorf("a token for a server: %v", err)
		}
	})
}

func TestAccessTokensEnd(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		laptop := m.Host("laptop")
		text, id := accessToken(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_OPERATOR})
		short, _ := accessToken(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_VIEWER, Ttl: durationpb.New(time.Minute)})
		conns := map[string]grpc.ClientConnInterface{}
		for _, s := range m.Servers {
			conns[s.Name] = bearer(t, laptop, s, text)
			if err := calls["Members"](t.Context(), conns[s.Name]); err != nil {
				t.Errorf("on %s: %v", s.Name, err)
			}
		}
		if _, err := m.Follower().Admin().RevokeAccessToken(t.Context(), &apiv1.RevokeAccessTokenRequest{Id: id}); err != nil {
			t.Fatal(err)
		}
		for name, conn := range conns { // at once, on every server
			if err := calls["Apply"](t.Context(), conn); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "has been revoked") {
				t.Errorf("a revoked token on %s gave %v", name, err)
			}
		}
		time.Sleep(time.Minute)
		if err := calls["Status"](t.Context(), bearer(t, laptop, m.Leader(), short)); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "has expired") {
			t.Errorf("an expired token gave %v", err)
		}
	})
}

// Only the exact token is taken, however near another comes.
func TestWrongAccessTokens(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Leader()
		text, _ := accessToken(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_ADMIN})
		good, err := accesstoken.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		laptop := m.Host("laptop")
		f := func(header, want string) {
			t.Helper()
			err := calls["Status"](t.Context(), withHeader(t, laptop, s, good, header))
			if (want == "") != (err == nil) || err != nil && (status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), want)) {
				t.Errorf("%.20q gave %v, want %q", header, err, want)
			}
		}
		f("Bearer "+text, "")
		f("bearer "+text, "")
		f("Basic "+text, "is empty")
		f(text, "is empty")
		f("Bearer", "is empty")
		f("Bearer x", "no access token")
		other := *good
		other.Secret[0] ^= 1
		f("Bearer "+other.Encode(), "not known to the mesh")
		other = *good
		other.ID += "0"
		f("Bearer "+other.Encode(), "not known to the mesh")

		two := bearing{withHeader(t, laptop, s, good, "Bearer "+text), "Bearer " + text}
		if err := calls["Status"](t.Context(), two); status.Code(err) != codes.Unauthenticated {
			t.Errorf("two tokens gave %v", err)
		}
	})
}

// A token that does not hold is worse than none: root that shows one is not
// taken for root.
func TestATokenIsJudgedByItself(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer nonsense")
		if _, err := m.Leader().Admin().Status(ctx, &apiv1.StatusRequest{}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("root with a wrong token got %v", err)
		}
	})
}

func TestTooManyFailedAttempts(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Leader()
		text, _ := accessToken(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_VIEWER})
		good, err := accesstoken.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		laptop := m.Host("laptop")
		f := func(name string, guess func(i int) string) {
			t.Helper()
			limited := 0
			for i := range 50 {
				err := calls["Status"](t.Context(), withHeader(t, laptop, s, good, guess(i)))
				wait, isLimit := grpcx.RetryAfter(err)
				if isLimit && wait > 0 {
					limited++
				}
			}
			if limited < 25 {
				t.Errorf("%s: only %d of 50 failed attempts were held up", name, limited)
			}
			if err := calls["Status"](t.Context(), bearer(t, laptop, s, text)); err != nil {
				t.Errorf("%s: the bearer of a good token is held up: %v", name, err)
			}
			time.Sleep(time.Minute)
		}
		f("secrets", func(int) string {
			return "Bearer " + accesstoken.New(good.ID, good.TrustDomain, good.Pin).Encode()
		})
		f("ids", func(i int) string {
			return "Bearer " + accesstoken.New(strings.Repeat("a", i+1), good.TrustDomain, [sha256.Size]byte{}).Encode()
		})
		f("nonsense", func(int) string { return "Bearer nonsense" })
	})
}

func TestTooManyChanges(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		text, _ := accessToken(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_OPERATOR})
		other, _ := accessToken(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_OPERATOR})
		laptop := m.Host("laptop")
		conn := bearer(t, laptop, m.Leader(), text)
		var err error
		for range 2000 {
			if err = calls["RevokeToken"](t.Context(), conn); status.Code(err) == codes.ResourceExhausted {
				break
			}
		}
		if _, ok := grpcx.RetryAfter(err); !ok {
			t.Errorf("2000 changes ended with %v", err)
		}
		if err := calls["Status"](t.Context(), conn); err != nil {
			t.Errorf("reading: %v", err)
		}
		if err := calls["Apply"](t.Context(), bearer(t, laptop, m.Leader(), other)); err != nil {
			t.Errorf("another caller: %v", err)
		}
	})
}

// Who is let in by a token may send large messages, and stay.
func TestBearersSendLargeMessages(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		text, _ := accessToken(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_OPERATOR})
		admin := apiv1.NewAdminClient(bearer(t, m.Host("laptop"), m.Leader(), text))
		var set []*apiv1.Resource
		for range 3000 {
			set = append(set, policyOf(strings.Repeat("x", 20)+string(rune('a'+len(set)%26))+strings.Repeat("y", len(set)/26%30)+strings.Repeat("z", len(set)/780)))
		}
		reply, err := admin.Apply(t.Context(), &apiv1.ApplyRequest{Resources: set})
		if err != nil || len(reply.Changes) != len(set) {
			t.Errorf("a set of 3000 gave %d changes, %v", len(reply.GetChanges()), err)
		}
		_, err = admin.Apply(t.Context(), &apiv1.ApplyRequest{Resources: []*apiv1.Resource{policyOf(strings.Repeat("x", 5<<20))}})
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "larger than max") {
			t.Errorf("5 MiB: %v", err)
		}
	})
}

func policyOf(name string) *apiv1.Resource {
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Policy{Policy: &apiv1.Policy{Service: name,
		Rules: []*apiv1.PolicyRule{{Name: "web", From: []string{"web", "billing", "reports-*"}}}}}}
}

func TestAccessTokensAreListedWithoutTheirSecrets(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		_, id := accessToken(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_VIEWER, Description: "the graphs", Ttl: durationpb.New(0)})
		reply, err := m.Leader().Admin().ListAccessTokens(t.Context(), &apiv1.ListAccessTokensRequest{})
		if err != nil || len(reply.Tokens) != 1 {
			t.Fatal(reply, err)
		}
		if got := reply.Tokens[0]; got.Id != id || got.SecretHash != nil || got.Description != "the graphs" || got.CreatedBy != "user/0" || got.ExpiresUnix != 0 {
			t.Errorf("got %v", got)
		}
	})
}

func TestAccessTokensThatMakeNoSense(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		f := func(r *apiv1.CreateAccessTokenRequest, want string) {
			t.Helper()
			_, err := m.Leader().Admin().CreateAccessToken(t.Context(), r)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
				t.Errorf("%v gave %v, want %q", r, err, want)
			}
		}
		viewer := apiv1.Role_ROLE_VIEWER
		f(&apiv1.CreateAccessTokenRequest{}, "viewer, operator or admin")
		f(&apiv1.CreateAccessTokenRequest{Role: 9}, "viewer, operator or admin")
		f(&apiv1.CreateAccessTokenRequest{Role: viewer, Ttl: durationpb.New(-1)}, "lives 1 s to")
		f(&apiv1.CreateAccessTokenRequest{Role: viewer, Ttl: &durationpb.Duration{Seconds: 1, Nanos: -1}}, "lives 1 s to")
		f(&apiv1.CreateAccessTokenRequest{Role: viewer, Description: strings.Repeat("é", 201)}, "longer than 200")
		f(&apiv1.CreateAccessTokenRequest{Role: viewer, Description: "a\x1b[31m"}, "cannot be shown")
	})
}

// The client that the command line uses, over the whole way.
func TestTheClientOfAServerElsewhere(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s, laptop := m.Leader(), m.Host("laptop")
		text, id := accessToken(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_OPERATOR})
		roots, err := os.ReadFile(filepath.Join(s.Config().DataDir, "roots.crt"))
		if err != nil {
			t.Fatal(err)
		}
		good, err := accesstoken.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		unpinned := *good
		unpinned.Pin[0] ^= 1
		f := func(r client.Remote, code codes.Code, want string) {
			t.Helper()
			c, err := client.DialRemote(r, client.WithDialer(laptop.DialContext))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = c.Admin().Apply(t.Context(), &apiv1.ApplyRequest{Resources: []*apiv1.Resource{service("orders")}})
			if status.Code(err) != code || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "rpc error")) {
				t.Errorf("got %v, want %v with %q", err, code, want)
			}
		}
		f(client.Remote{Address: s.Address(), Token: text + "\n"}, codes.OK, "")
		f(client.Remote{Address: s.Address(), Token: unpinned.Encode()}, codes.Unavailable, "another key than the pinned one")
		f(client.Remote{Address: s.Address(), Token: unpinned.Encode(), Roots: roots}, codes.OK, "")
		f(client.Remote{Address: "10.0.0.99:7300", Token: text}, codes.Unavailable, "the server at 10.0.0.99:7300 cannot be reached")
		if _, err := s.Admin().RevokeAccessToken(t.Context(), &apiv1.RevokeAccessTokenRequest{Id: id}); err != nil {
			t.Fatal(err)
		}
		f(client.Remote{Address: s.Address(), Token: text}, codes.Unauthenticated, "has been revoked")
		records, err := s.Admin().Audit(t.Context(), &apiv1.AuditRequest{Actor: "token/" + id})
		if err != nil || len(records.Records) != 2 {
			t.Fatal(records, err)
		}
		if r := records.Records[0]; r.Action != "apply" || r.Source != laptop.IP().String() || r.Role != apiv1.Role_ROLE_OPERATOR || r.Server != "s1" || r.Objects[0] != "service/orders" {
			t.Errorf("the record is %v", r)
		}
	})
}
