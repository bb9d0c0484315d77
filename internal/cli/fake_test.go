package cli

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

// A fakeMesh answers on the sockets of a server and of an agent.
type fakeMesh struct {
	apiv1.UnimplementedAdminServer
	dir string

	mu        sync.Mutex
	requests  []proto.Message
	resources []*apiv1.Resource
	status    *apiv1.StatusReply
	services  []*apiv1.ServiceSlice
	tokens    []*apiv1.Token
	access    []*apiv1.AccessToken
	records   []*apiv1.AuditRecord
	paged     bool // give one row a page
	problems  []*apiv1.Problem
	authority *apiv1.ShowAuthorityReply
	rotated   *apiv1.RotateAuthorityReply
	local     *apiv1.LocalStatusReply
	fail      error
}

type fakeLocal struct {
	apiv1.UnimplementedLocalServer
	*fakeMesh
}

// newFakeMesh serves on the sockets named: server.sock, agent.sock.
func newFakeMesh(t *testing.T, sockets ...string) *fakeMesh {
	t.Helper()
	// A socket's path must be short, which that of t.TempDir may not be.
	dir, err := os.MkdirTemp("", "meshd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &fakeMesh{dir: dir}
	for _, name := range sockets {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		apiv1.RegisterAdminServer(s, m)
		if name == agentSocket {
			apiv1.RegisterLocalServer(s, fakeLocal{fakeMesh: m})
		}
		done := make(chan struct{})
		go func() { defer close(done); s.Serve(l) }()
		t.Cleanup(func() { s.Stop(); <-done })
	}
	return m
}

func (m *fakeMesh) note(r proto.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests = append(m.requests, r)
	return m.fail
}

func (m *fakeMesh) last() proto.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.requests) == 0 {
		return nil
	}
	return m.requests[len(m.requests)-1]
}

func (m *fakeMesh) Status(_ context.Context, r *apiv1.StatusRequest) (*apiv1.StatusReply, error) {
	return m.status, m.note(r)
}

func (m *fakeMesh) Members(_ context.Context, r *apiv1.MembersRequest) (*apiv1.MembersReply, error) {
	return &apiv1.MembersReply{
		Servers: []*apiv1.ServerStatus{{Name: "vm1", Address: "10.0.0.1:7300", Leader: true, Voter: true, Alive: true, Version: "1.0.0"}},
		Nodes: []*apiv1.Node{
			{Name: "vm1", Address: "10.0.0.1", InboundPort: 7443, State: apiv1.NodeState_NODE_STATE_ALIVE, Version: "1.0.0"},
			{Name: "vm2", Address: "10.0.0.2", InboundPort: 7443, State: apiv1.NodeState_NODE_STATE_LOST},
		},
	}, m.note(r)
}

func (m *fakeMesh) ListServices(_ context.Context, r *apiv1.ListServicesRequest) (*apiv1.ListServicesReply, error) {
	reply := &apiv1.ListServicesReply{}
	var rows []*apiv1.ServiceSlice
	rows, reply.Next = onePage(m, r.Page, m.services)
	for _, s := range rows {
		if r.Name == "" || r.Name == s.Name {
			reply.Services = append(reply.Services, s)
		}
	}
	return reply, m.note(r)
}

func (m *fakeMesh) Apply(_ context.Context, r *apiv1.ApplyRequest) (*apiv1.ApplyReply, error) {
	if len(m.problems) > 0 {
		return &apiv1.ApplyReply{Problems: m.problems}, m.note(r)
	}
	reply := &apiv1.ApplyReply{}
	for _, resource := range r.Resources {
		reply.Changes = append(reply.Changes, &apiv1.Change{Kind: mesh.ResourceKind(resource), Name: resource.Name, Action: "created"})
	}
	return reply, m.note(r)
}

func (m *fakeMesh) GetResources(_ context.Context, r *apiv1.GetResourcesRequest) (*apiv1.GetResourcesReply, error) {
	reply := &apiv1.GetResourcesReply{}
	var rows []*apiv1.Resource
	rows, reply.Next = onePage(m, r.Page, m.resources)
	for _, resource := range rows {
		if (r.Kind == "" || r.Kind == mesh.ResourceKind(resource)) && (r.Name == "" || r.Name == resource.Name) {
			reply.Resources = append(reply.Resources, resource)
		}
	}
	return reply, m.note(r)
}

func (m *fakeMesh) Delete(_ context.Context, r *apiv1.DeleteRequest) (*apiv1.DeleteReply, error) {
	if len(m.problems) > 0 {
		return &apiv1.DeleteReply{Problems: m.problems}, m.note(r)
	}
	return &apiv1.DeleteReply{Change: &apiv1.Change{Kind: r.Kind, Name: r.Name, Action: "deleted"}}, m.note(r)
}

func (m *fakeMesh) CreateToken(_ context.Context, r *apiv1.CreateTokenRequest) (*apiv1.CreateTokenReply, error) {
	return &apiv1.CreateTokenReply{Token: "mesh1.abc", Id: "3f9a", ExpiresUnix: 1000}, m.note(r)
}

func (m *fakeMesh) ListTokens(_ context.Context, r *apiv1.ListTokensRequest) (*apiv1.ListTokensReply, error) {
	rows, next := onePage(m, r.Page, m.tokens)
	return &apiv1.ListTokensReply{Tokens: rows, Next: next}, m.note(r)
}

func (m *fakeMesh) RevokeToken(_ context.Context, r *apiv1.RevokeTokenRequest) (*apiv1.RevokeTokenReply, error) {
	return &apiv1.RevokeTokenReply{}, m.note(r)
}

func (m *fakeMesh) CreateAccessToken(_ context.Context, r *apiv1.CreateAccessTokenRequest) (*apiv1.CreateAccessTokenReply, error) {
	return &apiv1.CreateAccessTokenReply{Token: "meshd-access.abc", Id: "3f9a", ExpiresUnix: 1000}, m.note(r)
}

func (m *fakeMesh) ListAccessTokens(_ context.Context, r *apiv1.ListAccessTokensRequest) (*apiv1.ListAccessTokensReply, error) {
	rows, next := onePage(m, r.Page, m.access)
	return &apiv1.ListAccessTokensReply{Tokens: rows, Next: next}, m.note(r)
}

func (m *fakeMesh) RevokeAccessToken(_ context.Context, r *apiv1.RevokeAccessTokenRequest) (*apiv1.RevokeAccessTokenReply, error) {
	return &apiv1.RevokeAccessTokenReply{}, m.note(r)
}

func (m *fakeMesh) Audit(_ context.Context, r *apiv1.AuditRequest) (*apiv1.AuditReply, error) {
	rows, next := onePage(m, r.Page, m.records)
	return &apiv1.AuditReply{Records: rows, Next: next}, m.note(r)
}

// onePage gives all rows, or when the mesh is paged the one that a page is at.
func onePage[R any](m *fakeMesh, p *apiv1.Page, rows []R) (page []R, next string) {
	if !m.paged || len(rows) == 0 {
		return rows, ""
	}
	at := len(p.GetAfter())
	if at+1 < len(rows) {
		next = strings.Repeat("+", at+1)
	}
	return rows[at : at+1], next
}

func (l fakeLocal) LocalStatus(_ context.Context, r *apiv1.LocalStatusRequest) (*apiv1.LocalStatusReply, error) {
	return l.local, l.note(r)
}

func (l fakeLocal) AddService(_ context.Context, r *apiv1.AddServiceRequest) (*apiv1.AddServiceReply, error) {
	return &apiv1.AddServiceReply{Protocol: apiv1.Protocol_PROTOCOL_TCP, Address: "127.128.0.1", Unit: "orders.service", Warnings: []string{"nothing listens yet"}}, l.note(r)
}

func (l fakeLocal) RemoveService(_ context.Context, r *apiv1.RemoveServiceRequest) (*apiv1.RemoveServiceReply, error) {
	if r.Id == "gone" {
		return nil, status.Error(codes.NotFound, "this host declares no service gone")
	}
	return &apiv1.RemoveServiceReply{}, l.note(r)
}

// command runs a command line against the fake mesh.
func (m *fakeMesh) command(t *testing.T, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	return m.commandWithInput(t, "", args...)
}

func (m *fakeMesh) commandWithInput(t *testing.T, stdin string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	var out, err bytes.Buffer
	line := append([]string{"meshd", "--socket", m.dir}, args...)
	exit = Run(t.Context(), line, strings.NewReader(stdin), &out, &err)
	return out.String(), err.String(), exit
}

// want runs a command line that must succeed and print exactly that.
func (m *fakeMesh) want(t *testing.T, want string, args ...string) {
	t.Helper()
	stdout, stderr, exit := m.command(t, args...)
	if exit != 0 || stderr != "" {
		t.Errorf("meshd %s: exit %d\n%s", strings.Join(args, " "), exit, stderr)
	}
	compare(t, want, stdout)
}
