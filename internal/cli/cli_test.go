package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func compare(t *testing.T, want, got string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStatus(t *testing.T) {
	m := newFakeMesh(t, serverSocket, agentSocket)
	m.status = &apiv1.StatusReply{
		Cluster: &apiv1.Cluster{Id: "c1", Name: "shop", TrustDomain: "shop.mesh"},
		Servers: []*apiv1.ServerStatus{
			{Name: "vm1", Address: "10.0.0.1:7300", Leader: true, Voter: true, Alive: true, Version: "1.0.0"},
			{Name: "vm2", Address: "10.0.0.2:7300", Voter: true},
		},
		Index: 42, Nodes: 3, NodesAlive: 2, Services: 2, Instances: 4, InstancesPassing: 3, Version: "1.0.0",
		Agents: []*apiv1.AgentStatus{{Node: "vm1", Version: 42}, {Node: "vm3", Version: 40, Problems: []string{"port 80 is taken"}}},
	}
	m.local = &apiv1.LocalStatusReply{Node: "vm1", Version: "1.0.0", Server: "vm1", SliceVersion: 42, Services: []*apiv1.LocalService{{}}}
	m.want(t, `
mesh       shop (trust domain shop.mesh, id c1)
servers    1 of 2 alive, leader: vm1
hosts      2 of 3 alive
services   2, with 3 of 4 instances passing
state      index 42, answered by version 1.0.0
this host  vm1, version 1.0.0, connected to server vm1
           mesh configuration 42 in force, 1 service declared

SERVER  ADDRESS        ROLE    STATE   VERSION
vm1     10.0.0.1:7300  leader  alive   1.0.0
vm2     10.0.0.2:7300  voter   failed  -

AGENT  CONFIGURATION  PROBLEM
vm3    40             port 80 is taken
`, "status")
}

func TestStatusWithoutServers(t *testing.T) {
	m := newFakeMesh(t, agentSocket)
	m.fail = status.Error(codes.Unavailable, "no server answers")
	m.local = &apiv1.LocalStatusReply{Node: "vm3", Version: "1.0.0", Problems: []string{"no server is connected"}}
	stdout, stderr, exit := m.command(t, "status")
	if exit != exitFailure || !strings.Contains(stderr, "no server answers") || stdout != "" {
		t.Errorf("exit %d, stdout %q, stderr %q", exit, stdout, stderr)
	}
}

func TestMembers(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	m.want(t, `
NAME  KIND    STATE          ADDRESS        VERSION
vm1   server  alive, leader  10.0.0.1:7300  1.0.0
vm1   host    alive          10.0.0.1:7443  1.0.0
vm2   host    lost           10.0.0.2:7443  -
`, "members")
}

func TestServices(t *testing.T) {
	m := newFakeMesh(t, agentSocket)
	alive, lost := apiv1.NodeState_NODE_STATE_ALIVE, apiv1.NodeState_NODE_STATE_LOST
	m.services = []*apiv1.ServiceSlice{
		{Name: "db"},
		{Name: "orders", Config: &apiv1.Service{}, Routes: []*apiv1.Resource{{Name: "canary"}}, Endpoints: []*apiv1.Endpoint{
			{Node: "vm1", Id: "orders", Address: "10.0.0.1", Port: 8080, Protocol: apiv1.Protocol_PROTOCOL_HTTP, Weight: 1, Tags: []string{"blue"}, Health: apiv1.Health_HEALTH_PASSING, NodeState: alive},
			{Node: "vm2", Id: "orders", Address: "10.0.0.2", Port: 8080, Protocol: apiv1.Protocol_PROTOCOL_HTTP, Weight: 1, Health: apiv1.Health_HEALTH_PASSING, NodeState: lost},
		}},
	}
	m.want(t, `
NAME    PROTOCOL  PASSING  HOSTS    ROUTES  POLICIES
db      -         0 of 0   -        0       0
orders  http      1 of 2   vm1,vm2  1       0
`, "service", "list")
	m.want(t, `
service     orders
protocol    http
configured  by the resource of kind service
routes      canary
policies    none

HOST  INSTANCE  ADDRESS        PROTOCOL  HEALTH   HOST STATE  WEIGHT  TAGS
vm1   orders    10.0.0.1:8080  http      passing  alive       1       blue
vm2   orders    10.0.0.2:8080  http      passing  lost        1       -
`, "service", "show", "orders")
	_, stderr, exit := m.command(t, "service", "show", "order")
	compare(t, `
meshd: there is no service "order"
  cause:  no host has declared it and no resource names it
  next:   see which there are: meshd service list
`, stderr)
	if exit != exitFailure {
		t.Errorf("exit %d", exit)
	}
}

func TestServicesOfThisHost(t *testing.T) {
	m := newFakeMesh(t, serverSocket, agentSocket)
	m.local = &apiv1.LocalStatusReply{Services: []*apiv1.LocalService{{
		Declaration: &apiv1.Declaration{Id: "orders", Name: "orders", Port: 8080, Protocol: apiv1.Protocol_PROTOCOL_HTTP},
		Source:      "cli", Unit: "orders.service", Health: apiv1.Health_HEALTH_CRITICAL, CheckOutput: "GET /: refused\n\x1b[31m",
	}}}
	m.want(t, `
ID      SERVICE  PORT  PROTOCOL  UNIT            HEALTH    SOURCE  CHECK
orders  orders   8080  http      orders.service  critical  cli     GET /: refused  [31m
`, "service", "list", "--local")
}

func TestServiceAdd(t *testing.T) {
	m := newFakeMesh(t, agentSocket)
	f := func(want *apiv1.Declaration, args ...string) {
		t.Helper()
		if _, stderr, exit := m.command(t, append([]string{"service", "add"}, args...)...); exit != 0 {
			t.Fatalf("exit %d: %s", exit, stderr)
		}
		if diff := cmp.Diff(&apiv1.AddServiceRequest{Declaration: want}, m.last(), protocmp.Transform()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	f(&apiv1.Declaration{Name: "orders", Port: 8080}, "orders", "--port", "8080")
	f(&apiv1.Declaration{Name: "orders", Port: 8080, Id: "orders-2", Protocol: apiv1.Protocol_PROTOCOL_HTTP, Unit: "o.service", User: "o",
		Tags: []string{"a", "b=c"}, Meta: map[string]string{"version": "2=3"},
		Checks: []*apiv1.CheckSpec{
			{Kind: &apiv1.CheckSpec_Http{Http: "/healthz"}, Interval: durationpb.New(2e9)},
			{Kind: &apiv1.CheckSpec_Tcp{Tcp: ":9000"}, Interval: durationpb.New(2e9)},
		}},
		"-p=8080", "orders", "--id", "orders-2", "--protocol", "http", "--unit", "o.service", "--user", "o", "--tag", "a", "--tag", "b=c",
		"--meta", "version=2=3", "--check", "http:/healthz", "--check", "tcp:9000", "--check-interval", "2s")
	m.want(t, `
service    orders, port 8080, tcp
called as  orders.mesh:8080 (127.128.0.1 on this host)
unit       orders.service
warning    nothing listens yet
`, "service", "add", "orders", "--port", "8080")
}

func TestServiceRemove(t *testing.T) {
	m := newFakeMesh(t, agentSocket)
	m.want(t, "service orders removed from this host\n", "service", "remove", "orders")
	_, stderr, exit := m.command(t, "service", "remove", "gone")
	compare(t, `
meshd: cannot remove the service gone
  cause:  this host declares no service gone
  effect: nothing was changed
`, stderr)
	if exit != exitFailure {
		t.Errorf("exit %d", exit)
	}
}

func TestTokens(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	m.want(t, "meshd join mesh1.abc\n", "token", "create")
	m.want(t, "meshd join --server mesh1.abc\n", "token", "create", "--server", "--ttl", "10m", "--name", "vm7", "--service", "web-*", "--reusable")
	want := &apiv1.CreateTokenRequest{Server: true, Ttl: durationpb.New(600e9), AllowedNames: []string{"vm7"}, AllowedServices: []string{"web-*"}, Reusable: true}
	if diff := cmp.Diff(want, m.last(), protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	m.want(t, `
{
  "token": "mesh1.abc",
  "id": "3f9a",
  "expires_unix": "1000"
}
`, "token", "create", "-o", "json")
	m.tokens = []*apiv1.Token{
		{Id: "a", ExpiresUnix: 4102444800, AllowedServices: []string{"orders", "web-*"}},
		{Id: "b", ExpiresUnix: 4102444800, UsedUnix: 1},
		{Id: "c", ExpiresUnix: 1, Server: true, AllowedNames: []string{"vm7"}},
		{Id: "d", ExpiresUnix: 4102444800, Reusable: true, UsedUnix: 1},
	}
	m.want(t, `
ID  FOR     STATE     EXPIRES               NAMES  SERVICES
a   host    unused    2100-01-01T00:00:00Z  any    orders,web-*
b   host    used      2100-01-01T00:00:00Z  any    any
c   server  expired   1970-01-01T00:00:01Z  vm7    any
d   host    reusable  2100-01-01T00:00:00Z  any    any
`, "token", "list")
	m.want(t, "join token a revoked\n", "token", "revoke", "a")
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	f := func(code codes.Code, want string) {
		t.Helper()
		m.fail = status.Error(code, "because")
		_, stderr, exit := m.command(t, "members")
		compare(t, want, stderr)
		if exit != exitFailure {
			t.Errorf("exit %d", exit)
		}
	}
	f(codes.PermissionDenied, `
meshd: cannot list the members
  cause:  because
  next:   run it as root on a host that runs a server; meshd members shows which do
`)
	f(codes.Unavailable, `
meshd: cannot list the members
  cause:  because
  next:   see how the servers are: meshd status
          see the log of this host: journalctl -u meshd-agent -u meshd-server -n 50
          to see what the nearest server has: meshd members --stale
`)
	m.fail = status.Error(codes.PermissionDenied, "because")
	_, stderr, _ := m.command(t, "token", "revoke", "a")
	compare(t, `
meshd: cannot revoke the join token a
  cause:  because
  effect: nothing was changed
  next:   run it as root on a host that runs a server; meshd members shows which do
`, stderr)
}
