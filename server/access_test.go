package server_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/meshtest"
	"github.com/meshd/meshd/store/command"
)

// calls are one of each method that somebody else than an operator might try.
var calls = map[string]func(context.Context, grpc.ClientConnInterface) error{
	"Status": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).Status(ctx, &apiv1.StatusRequest{})
		return err
	},
	"Members": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).Members(ctx, &apiv1.MembersRequest{})
		return err
	},
	"ListServices": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).ListServices(ctx, &apiv1.ListServicesRequest{})
		return err
	},
	"GetResources": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).GetResources(ctx, &apiv1.GetResourcesRequest{})
		return err
	},
	"Apply": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).Apply(ctx, &apiv1.ApplyRequest{Resources: []*apiv1.Resource{service("x")}})
		return err
	},
	"Delete": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).Delete(ctx, &apiv1.DeleteRequest{Kind: "service", Name: "orders"})
		return err
	},
	"CreateToken": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).CreateToken(ctx, &apiv1.CreateTokenRequest{})
		return err
	},
	"ListTokens": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).ListTokens(ctx, &apiv1.ListTokensRequest{})
		return err
	},
	"RevokeToken": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).RevokeToken(ctx, &apiv1.RevokeTokenRequest{Id: "x"})
		return err
	},
	"RemoveHost": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).RemoveHost(ctx, &apiv1.RemoveHostRequest{Name: "nobody"})
		return err
	},
	"CreateAccessToken": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).CreateAccessToken(ctx, &apiv1.CreateAccessTokenRequest{})
		return err
	},
	"ListAccessTokens": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).ListAccessTokens(ctx, &apiv1.ListAccessTokensRequest{})
		return err
	},
	"RevokeAccessToken": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).RevokeAccessToken(ctx, &apiv1.RevokeAccessTokenRequest{Id: "x"})
		return err
	},
	"RemoveServer": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).RemoveServer(ctx, &apiv1.RemoveServerRequest{Name: "nobody"})
		return err
	},
	"SaveSnapshot": func(ctx context.Context, c grpc.ClientConnInterface) error {
		stream, err := apiv1.NewAdminClient(c).SaveSnapshot(ctx, &apiv1.SaveSnapshotRequest{})
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	},
	"Audit": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewAdminClient(c).Audit(ctx, &apiv1.AuditRequest{})
		return err
	},
	"Sign": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewControlClient(c).Sign(ctx, &apiv1.SignRequest{})
		return err
	},
	"Connect": func(ctx context.Context, c grpc.ClientConnInterface) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := apiv1.NewControlClient(c).Connect(ctx)
		if err == nil {
			_ = stream.CloseSend()
			_, err = stream.Recv()
		}
		return err
	},
	"Propose": func(ctx context.Context, c grpc.ClientConnInterface) error {
		entry, err := command.Encode(&command.RemoveToken{Id: "x"})
		if err == nil {
			_, err = apiv1.NewPeerClient(c).Propose(ctx, &apiv1.ProposeRequest{Entry: entry})
		}
		return err
	},
	"ReadIndex": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewPeerClient(c).ReadIndex(ctx, &apiv1.ReadIndexRequest{})
		return err
	},
	"Progress": func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := apiv1.NewPeerClient(c).Progress(ctx, &apiv1.ProgressRequest{})
		return err
	},
}

// refused tells which calls a connection is refused, and checks the reason.
func refused(t *testing.T, conn grpc.ClientConnInterface, code codes.Code, want string) string {
	t.Helper()
	var names []string
	for _, name := range strings.Fields(reads + " Audit " + writes + " " + admins + " " + agents + " " + peers) {
		err := calls[name](t.Context(), conn)
		if c := status.Code(err); c != codes.PermissionDenied && c != codes.Unauthenticated {
			continue
		}
		names = append(names, name)
		if status.Code(err) != code || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gave %v, want %v with %q", name, err, code, want)
		}
	}
	return strings.Join(names, " ")
}

const (
	writes = "Apply Delete CreateToken ListTokens RevokeToken RemoveHost"
	admins = "CreateAccessToken ListAccessTokens RevokeAccessToken RemoveServer SaveSnapshot"
	agents = "Sign Connect"
	peers  = "Propose ReadIndex Progress"
	reads  = "Status Members ListServices GetResources"
)

func TestWhoMayCallWhat(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Servers[0]
		f := func(who string, conn grpc.ClientConnInterface, code codes.Code, reason, want string) {
			t.Helper()
			if got := refused(t, conn, code, reason); got != want {
				t.Errorf("%s is refused %q, want %q", who, got, want)
			}
		}
		h := m.JoinFakeAgent("h1")
		f("a host", h.Dial(s), codes.PermissionDenied, "may not ask for", "Audit "+writes+" "+admins+" "+peers)
		if err := calls["Apply"](t.Context(), h.Dial(s)); !strings.Contains(err.Error(), "run it on a server host, as root") {
			t.Errorf("a host that writes is told %v", err)
		}

		stranger, err := grpcx.Dial(h.Host, s.Address(), grpcx.TLS{TrustDomain: h.TLS().TrustDomain, Roots: h.TLS().Roots})
		if err != nil {
			t.Fatal(err)
		}
		defer stranger.Close()
		f("a stranger", stranger, codes.Unauthenticated, "needs a certificate", reads+" Audit "+writes+" "+admins+" "+agents+" "+peers)

		mustRegister(t, h.Connect(s), 1, instance("orders", 80))
		orders, err := grpcx.Dial(h.Host, s.Address(), h.ServiceTLS(s, "orders"))
		if err != nil {
			t.Fatal(err)
		}
		defer orders.Close()
		f("a service", orders, codes.PermissionDenied, "orders may not ask for", reads+" Audit "+writes+" "+admins+" "+agents+" "+peers)

		nobody, err := grpcx.DialUnix(s.Host.As(12345), s.Config().Socket)
		if err != nil {
			t.Fatal(err)
		}
		defer nobody.Close()
		f("another user", nobody, codes.PermissionDenied, "run it as root", reads+" Audit "+writes+" "+admins)
		f("the server itself", s.Peer(), codes.PermissionDenied, "server/s1 may not ask for", agents)
	})
}

func TestAHostWhoseNameWasTakenIsOut(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Servers[0]
		old := m.JoinFakeAgent("h1")
		if err := calls["Status"](t.Context(), old.Dial(s)); err != nil {
			t.Fatal(err)
		}
		m.Net.Crash(old.Host)
		old.Host = m.Net.Host("h1", old.Host.IP())
		anew := m.NewFakeAgent("h1-new")
		anew.Name = "h1"
		if err := anew.EnrollWith(m.CreateToken(&apiv1.CreateTokenRequest{}), nil); err != nil {
			t.Fatal(err)
		}
		err := calls["Status"](t.Context(), old.Dial(s))
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "no member of the mesh with that key") {
			t.Errorf("the old host got %v", err)
		}
		if err := calls["Status"](t.Context(), anew.Dial(s)); err != nil {
			t.Errorf("the new host got %v", err)
		}
	})
}

// Whoever has not shown a certificate must not make a server keep what it sends:
// what it may not call is refused before a message is read, and what it may call
// can take little, because the connection ends before there is more.
func TestStrangersCannotMakeAServerKeepMessages(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Servers[0]
		h := m.JoinFakeAgent("h1")
		stranger, err := grpcx.Dial(h.Host, s.Address(), grpcx.TLS{TrustDomain: h.TLS().TrustDomain, Roots: h.TLS().Roots})
		if err != nil {
			t.Fatal(err)
		}
		defer stranger.Close()
		f := func(method string, want codes.Code) {
			t.Helper()
			// The message never comes, so whoever waits for it does not answer.
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			call, err := stranger.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
			if err == nil {
				err = call.RecvMsg(&apiv1.JoinReply{})
			}
			if status.Code(err) != want {
				t.Errorf("%s gave %v, want %v", method, err, want)
			}
		}
		f(apiv1.Admin_Apply_FullMethodName, codes.Unauthenticated)
		f(apiv1.Control_Connect_FullMethodName, codes.Unauthenticated)
		f(apiv1.Peer_Propose_FullMethodName, codes.Unauthenticated)
		f("/meshd.v1.Else/What", codes.Unauthenticated)
		f(apiv1.Enroll_Join_FullMethodName, codes.DeadlineExceeded)
		_, err = apiv1.NewEnrollClient(stranger).Join(t.Context(), &apiv1.JoinRequest{Name: strings.Repeat("x", 200<<10)})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("a large join gave %v", err)
		}
	})
}

func TestHostsSeeNoKeysOrRightsOfOthers(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Servers[0]
		h := m.JoinFakeAgent("h1")
		f := func(c apiv1.AdminClient, all bool) {
			t.Helper()
			reply, err := c.Members(t.Context(), &apiv1.MembersRequest{})
			if err != nil || len(reply.Nodes) != 1 || reply.Nodes[0].Name != "h1" {
				t.Fatal(reply, err)
			}
			if n := reply.Nodes[0]; (len(n.KeyHash) > 0) != all || (len(n.AllowedServices) > 0) != all {
				t.Errorf("got %v", n)
			}
		}
		f(s.Admin(), true)
		f(apiv1.NewAdminClient(h.Dial(s)), false)
	})
}
