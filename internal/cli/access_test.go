package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/accesstoken"
)

func sent(t *testing.T, m *fakeMesh, want any) {
	t.Helper()
	if diff := cmp.Diff(want, m.last(), protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAccessTokens(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	m.want(t, "meshd-access.abc\n", "access", "create", "--role", "operator", "--ttl", "24h", "--description", "the deploys")
	sent(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_OPERATOR, Ttl: durationpb.New(24 * time.Hour), Description: "the deploys"})
	m.want(t, "meshd-access.abc\n", "access", "create", "--role", "admin", "--ttl", "0")
	sent(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_ADMIN, Ttl: durationpb.New(0)})
	m.access = []*apiv1.AccessToken{
		{Id: "a", Role: apiv1.Role_ROLE_VIEWER, CreatedBy: "user/0", Description: "the graphs"},
		{Id: "b", Role: apiv1.Role_ROLE_ADMIN, CreatedBy: "token/a", ExpiresUnix: 1},
		{Id: "c", Role: apiv1.Role_ROLE_OPERATOR, CreatedBy: "user/0", ExpiresUnix: 4102444800},
	}
	const list = `
ID  ROLE      STATE    EXPIRES               MADE BY  DESCRIPTION
a   viewer    valid    never                 user/0   the graphs
b   admin     expired  1970-01-01T00:00:01Z  token/a  -
c   operator  valid    2100-01-01T00:00:00Z  user/0   -
`
	m.want(t, list, "access", "list")
	m.paged = true
	m.want(t, list, "access", "list")
	m.want(t, "access token a revoked\n", "access", "revoke", "a")
	sent(t, m, &apiv1.RevokeAccessTokenRequest{Id: "a"})
}

func TestAccessTokensInFiles(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	path := filepath.Join(t.TempDir(), "graphs.token")
	stdout, stderr, exit := m.command(t, "access", "create", "--role", "viewer", "--out", path)
	if exit != 0 || strings.Contains(stdout+stderr, "abc") || !strings.Contains(stdout, "--token-file "+path) {
		t.Errorf("exit %d: %s%s", exit, stdout, stderr)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	if data, err := os.ReadFile(path); string(data) != "meshd-access.abc\n" {
		t.Errorf("the file holds %q, %v", data, err)
	}
	made := len(m.requests)
	_, stderr, exit = m.command(t, "access", "create", "--role", "viewer", "--out", path)
	if exit != exitFailure || !strings.Contains(stderr, "there already") || len(m.requests) != made {
		t.Errorf("over a file that is there: exit %d, after %d requests: %s", exit, len(m.requests)-made, stderr)
	}
	m.fail = status.Error(codes.PermissionDenied, "no")
	other := path + ".other"
	_, stderr, exit = m.command(t, "access", "create", "--role", "viewer", "--out", other)
	if _, err := os.Stat(other); exit != exitFailure || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a token: exit %d, %v: %s", exit, err, stderr)
	}
}

func TestAccessUsage(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	f := func(want string, args ...string) {
		t.Helper()
		_, stderr, exit := m.command(t, args...)
		if exit != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit %d: %s", args, exit, stderr)
		}
	}
	f("--role viewer, operator or admin", "access", "create")
	f("--role viewer, operator or admin", "access", "create", "--role", "root")
	f("write a duration", "access", "create", "--role", "viewer", "--ttl", "5y")
	f("write a number", "audit", "--limit", "all")
	f("must not be negative", "access", "create", "--role", "viewer", "--ttl", "-1h")
	f("name one token", "access", "revoke")
	f("is no time", "audit", "--since", "yesterday")
	f("there is no state", "members", "--state", "dead")
	f("there is no health", "service", "list", "--health", "bad")
	f("no key and value", "service", "list", "--meta", "x")
}

func TestAudit(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	m.records = []*apiv1.AuditRecord{
		{Index: 9, TimeUnixNano: 4102444800e9, Actor: "token/a", Role: apiv1.Role_ROLE_OPERATOR, Source: "10.0.0.9", Server: "vm1", Action: "apply", Objects: []string{"route/orders", "service/orders"}},
		{Index: 7, TimeUnixNano: 1e9, Actor: "user/0", Role: apiv1.Role_ROLE_ADMIN, Source: "unix", Server: "vm2", Action: "delete", Objects: []string{"route/x"}, Refusal: "not found"},
	}
	const all = `
TIME                  WHO                 FROM      ACTION  OBJECTS                      RESULT
2100-01-01T00:00:00Z  token/a (operator)  10.0.0.9  apply   route/orders,service/orders  done
1970-01-01T00:00:01Z  user/0 (admin)      unix      delete  route/x                      refused: not found
`
	m.want(t, all, "audit")
	m.paged = true
	m.want(t, all, "audit", "--limit", "0")
	m.want(t, all[:strings.Index(all, "1970")], "audit", "--limit", "1", "--actor", "token/*", "--action", "apply", "--object", "route/*", "--since", "2026-01-31", "--until", "2026-01-31T12:00:00Z")
	sent(t, m, &apiv1.AuditRequest{Page: &apiv1.Page{Size: 1}, Actor: "token/*", Action: "apply", Object: "route/*", SinceUnix: 1769817600, UntilUnix: 1769860800})
	before := time.Now().Add(-time.Hour).Unix()
	m.command(t, "audit", "--since", "1h")
	if got := m.last().(*apiv1.AuditRequest).SinceUnix; got < before || got > time.Now().Unix()-3600 {
		t.Errorf("an hour ago is %d", got)
	}
}

// A command follows pages until there are no more, and passes its filters on.
func TestListingsFollowPages(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	m.paged = true
	m.services = []*apiv1.ServiceSlice{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	m.tokens = []*apiv1.Token{{Id: "a", ExpiresUnix: 1}, {Id: "b", ExpiresUnix: 1}}
	m.resources = []*apiv1.Resource{
		{Name: "x", Version: 7, Spec: &apiv1.Resource_Route{Route: &apiv1.Route{Service: "x"}}},
		{Name: "y", Version: 8, Spec: &apiv1.Resource_Route{Route: &apiv1.Route{Service: "x"}}},
	}
	lines := func(want int, args ...string) {
		t.Helper()
		stdout, stderr, exit := m.command(t, args...)
		if got := strings.Count(stdout, "\n"); exit != 0 || got != want {
			t.Errorf("%v gave %d lines:\n%s%s", args, got, stdout, stderr)
		}
	}
	lines(4, "service", "list", "--prefix", "p", "--tag", "t", "--host", "h", "--health", "critical", "--meta", "k=v=w")
	sent(t, m, &apiv1.ListServicesRequest{Page: &apiv1.Page{After: "++"}, Prefix: "p", Tag: "t", Node: "h", Health: apiv1.Health_HEALTH_CRITICAL, Meta: map[string]string{"k": "v=w"}})
	lines(3, "token", "list")
	lines(3, "get", "route", "--service", "x", "--prefix", "z")
	sent(t, m, &apiv1.GetResourcesRequest{Kind: "route", Page: &apiv1.Page{After: "+"}, Service: "x", Prefix: "z"})
	m.command(t, "members", "--state", "lost", "--prefix", "vm")
	sent(t, m, &apiv1.MembersRequest{Page: &apiv1.Page{}, State: apiv1.NodeState_NODE_STATE_LOST, Prefix: "vm"})
	m.command(t, "delete", "route", "x", "--if-version", "7")
	sent(t, m, &apiv1.DeleteRequest{Kind: "route", Name: "x", Version: 7})
}

func TestServersElsewhere(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	dir := t.TempDir()
	loose, tight := filepath.Join(dir, "loose"), filepath.Join(dir, "tight")
	token := accesstoken.New("a", "corp.example", [32]byte{}).Encode()
	for path, mode := range map[string]os.FileMode{loose: 0o644, tight: 0o600} {
		if err := os.WriteFile(path, []byte(token+"\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	f := func(env, want string, args ...string) {
		t.Helper()
		t.Setenv(client.TokenEnv, env)
		_, stderr, exit := m.command(t, args...)
		if exit != exitFailure || !strings.Contains(stderr, want) || strings.Contains(stderr, token) {
			t.Errorf("%v: exit %d: %s", args, exit, stderr)
		}
	}
	const nobody = "127.0.0.1:1"
	f("", "there is no access token", "--server", nobody, "members")
	f("", "chmod 600 "+loose, "--server", nobody, "--token-file", loose, "members")
	f("", "the server at "+nobody+" cannot be reached", "members", "--server", nobody, "--token-file", tight)
	f(token, "the server at "+nobody+" cannot be reached", "--server", nobody, "token", "create", "--server")
	f("nonsense", "this is no access token", "--server", nobody, "members")
	f(token, "is not host:port", "--server", "vm1", "members")
	f(token, "no certificate (PEM)", "--server", nobody, "--ca", tight, "members")
	f(token, "cannot read "+dir+"/absent", "--server", nobody, "--ca", dir+"/absent", "members")
	if m.last() != nil {
		t.Errorf("this host's server was asked %v", m.last())
	}
	// An option of a command that has the name of a global one stays its own.
	m.want(t, "meshd join --server mesh1.abc\n", "token", "create", "--server")
}
