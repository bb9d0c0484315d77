package server_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/jointoken"
	"github.com/meshd/meshd/internal/meshtest"
)

func TestJoin(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		create := func(r *apiv1.CreateTokenRequest) string { return m.CreateToken(r) }
		f := func(name, token string, change func(*apiv1.JoinRequest), code codes.Code, want string) *meshtest.FakeAgent {
			t.Helper()
			h := m.NewFakeAgent(name)
			err := h.EnrollWith(token, change)
			if status.Code(err) != code || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s joins with %v, want %v with %q", name, err, code, want)
			}
			return h
		}
		const unknown = "not known to the mesh"
		once := create(&apiv1.CreateTokenRequest{})
		f("wrong-secret", once, func(r *apiv1.JoinRequest) { r.Secret = make([]byte, 16) }, codes.PermissionDenied, unknown)
		f("wrong-id", once, func(r *apiv1.JoinRequest) { r.TokenId = "0123456789abcdef" }, codes.PermissionDenied, unknown)
		f("no-secret", once, func(r *apiv1.JoinRequest) { r.Secret = nil }, codes.PermissionDenied, unknown)
		f("bad-csr", once, func(r *apiv1.JoinRequest) { r.Csr = r.Csr[:50] }, codes.InvalidArgument, "certificate request")
		f("bad-name", once, func(r *apiv1.JoinRequest) { r.Name = "a.b" }, codes.InvalidArgument, "a.b")
		f("as-server", once, func(r *apiv1.JoinRequest) {
			r.Server = &apiv1.ServerJoin{Address: "10.9.9.9:7300", GossipAddress: "10.9.9.9:7301"}
		},
			codes.PermissionDenied, "meshd token create --server")
		f("long-version", once, func(r *apiv1.JoinRequest) { r.Version = strings.Repeat("1", 65) }, codes.InvalidArgument, "longer than 64")
		f("no-address", once, func(r *apiv1.JoinRequest) { r.Address = "h1.example" }, codes.InvalidArgument, "not an IP address")
		// None of these has used the token up.
		first := f("first", once, nil, codes.OK, "")
		if first.Reply.Server != nil || len(first.Reply.Servers) != 3 {
			t.Errorf("a host was answered %v", first.Reply)
		}
		f("second", once, nil, codes.PermissionDenied, "was used by another host")
		id := first.Reply.Id
		if err := first.EnrollWith(once, nil); err != nil || first.Reply.Id != id {
			t.Errorf("the same host asking again got id %s, %v; it has %s", first.Reply.Id, err, id)
		}

		named := create(&apiv1.CreateTokenRequest{AllowedNames: []string{"db1"}})
		f("web1", named, nil, codes.PermissionDenied, `not for the name "web1"`)
		f("db1", named, nil, codes.OK, "")

		many := create(&apiv1.CreateTokenRequest{Reusable: true})
		f("many1", many, nil, codes.OK, "")
		f("many2", many, nil, codes.OK, "")
		text, err := jointoken.Parse(many)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Leader().Admin().RevokeToken(t.Context(), &apiv1.RevokeTokenRequest{Id: text.ID}); err != nil {
			t.Fatal(err)
		}
		f("many3", many, nil, codes.PermissionDenied, unknown)

		short := create(&apiv1.CreateTokenRequest{Ttl: durationpb.New(time.Minute)})
		time.Sleep(time.Minute)
		f("late", short, nil, codes.PermissionDenied, "expired")
	})
}

func TestTokensAreListedWithoutTheirSecrets(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		if err := m.NewFakeAgent("h1").EnrollWith(m.CreateToken(&apiv1.CreateTokenRequest{}), nil); err != nil {
			t.Fatal(err)
		}
		reply, err := m.Leader().Admin().ListTokens(t.Context(), &apiv1.ListTokensRequest{})
		if err != nil || len(reply.Tokens) != 1 {
			t.Fatalf("listing gave %v, %v", reply, err)
		}
		if token := reply.Tokens[0]; token.SecretHash != nil || token.UsedBy != nil || token.UsedUnix == 0 || token.ExpiresUnix == 0 {
			t.Errorf("the token is shown as %v", token)
		}
	})
}

func TestTokensThatMakeNoSense(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		f := func(r *apiv1.CreateTokenRequest, want string) {
			t.Helper()
			_, err := m.Leader().Admin().CreateToken(t.Context(), r)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
				t.Errorf("%v gave %v, want %q", r, err, want)
			}
		}
		f(&apiv1.CreateTokenRequest{Ttl: durationpb.New(0)}, "lives 1 s to 90 days")
		f(&apiv1.CreateTokenRequest{Ttl: durationpb.New(100 * 24 * time.Hour)}, "lives 1 s to 90 days")
		f(&apiv1.CreateTokenRequest{Ttl: &durationpb.Duration{Seconds: 1, Nanos: -1}}, "lives 1 s to 90 days")
		f(&apiv1.CreateTokenRequest{Server: true, Reusable: true}, "for one use")
		f(&apiv1.CreateTokenRequest{Server: true, AllowedServices: []string{"web"}}, "runs no services")
		f(&apiv1.CreateTokenRequest{AllowedServices: []string{"a*b"}}, `"a*b" is no service`)
		f(&apiv1.CreateTokenRequest{AllowedNames: []string{"a.b"}}, "allowed host")
	})
}

func TestTooManyJoins(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		token := m.CreateToken(&apiv1.CreateTokenRequest{})
		guesser := m.NewFakeAgent("guesser")
		guess := func() error {
			return guesser.EnrollWith(token, func(r *apiv1.JoinRequest) { r.Secret = make([]byte, 16) })
		}
		limited := false
		for range 50 {
			limited = limited || status.Code(guess()) == codes.ResourceExhausted
		}
		if !limited {
			t.Error("one host could guess 50 times in a row")
		}
		if err := m.NewFakeAgent("other").EnrollWith(token, nil); err != nil {
			t.Errorf("another host was held up: %v", err)
		}
	})
}

func TestOldTokensAreCleared(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		m.CreateToken(&apiv1.CreateTokenRequest{})
		m.CreateToken(&apiv1.CreateTokenRequest{Ttl: durationpb.New(60 * 24 * time.Hour)})
		s := m.Servers[0]
		s.Stop()
		time.Sleep(26 * time.Hour)
		s.Restart()
		m.WaitFor("the expired token to be cleared", func() bool {
			reply, err := s.Admin().ListTokens(t.Context(), &apiv1.ListTokensRequest{})
			return err == nil && len(reply.Tokens) == 1
		})
	})
}
