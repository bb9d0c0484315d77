package server_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/meshtest"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/store/command"
)

const (
	alive = apiv1.NodeState_NODE_STATE_ALIVE
	lost  = apiv1.NodeState_NODE_STATE_LOST
	left  = apiv1.NodeState_NODE_STATE_LEFT
)

func instance(service string, port uint32) *apiv1.Instance {
	return &apiv1.Instance{
		Id: service, Service: service, Port: port, Protocol: apiv1.Protocol_PROTOCOL_HTTP, Health: apiv1.Health_HEALTH_PASSING,
	}
}

func mustRegister(t *testing.T, f *meshtest.FakeStream, sequence uint64, instances ...*apiv1.Instance) {
	t.Helper()
	if refusal := f.Register(sequence, instances...); refusal != "" {
		t.Fatalf("registrations refused: %s", refusal)
	}
}

// endpoints names the instances that a host knows of a service.
func endpoints(f *meshtest.FakeStream, service string) (list []string) {
	for _, e := range f.Slice().Services[service].GetEndpoints() {
		list = append(list, fmt.Sprintf("%s:%d %v", e.Address, e.Port, e.NodeState))
	}
	return list
}

// nodeState is a host's state as the leader has it.
func nodeState(t *testing.T, m *meshtest.Mesh, name string) apiv1.NodeState {
	t.Helper()
	reply, err := m.Leader().Admin().Members(t.Context(), &apiv1.MembersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range reply.Nodes {
		if n.Name == name {
			return n.State
		}
	}
	return apiv1.NodeState_NODE_STATE_UNSPECIFIED
}

func TestARegistrationReachesTheSliceOfAHostOnAnotherServer(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		a := m.JoinFakeAgent("h1").Connect(m.Servers[0])
		b := m.JoinFakeAgent("h2").Connect(m.Servers[2])
		mustRegister(t, a, 1, instance("orders", 8080))
		m.WaitFor("the other host to know orders", func() bool { return len(endpoints(b, "orders")) == 1 })
		if got := endpoints(b, "orders")[0]; got != "10.0.0.4:8080 NODE_STATE_ALIVE" {
			t.Errorf("the other host knows %s", got)
		}
		m.WaitFor("the host to know its own", func() bool { return len(endpoints(a, "orders")) == 1 })
		if vip := b.Slice().Services["orders"].Vip; vip != 1 {
			t.Errorf("orders has place %d", vip)
		}
		node := b.Slice().Nodes["h1"]
		if node.GetAddress() != "10.0.0.4" || node.GetKeyHash() != nil || node.GetLeaseServer() != "" || node.GetAllowedServices() != nil {
			t.Errorf("hosts are told of each other: %v", node)
		}
		if len(b.Slice().Roots) != 1 || b.Slice().Mesh == nil {
			t.Errorf("the slice lacks roots or defaults")
		}
		mustRegister(t, a, 2)
		m.WaitFor("orders to be gone", func() bool { return len(endpoints(b, "orders")) == 0 })
	})
}

func TestRegistrationsAreRefusedWithTheReason(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		token := m.CreateToken(&apiv1.CreateTokenRequest{AllowedServices: []string{"web", "web-*"}})
		h := m.NewFakeAgent("h1")
		if err := h.EnrollWith(token, nil); err != nil {
			t.Fatal(err)
		}
		stream, sequence := h.Connect(m.Servers[0]), uint64(0)
		f := func(want string, instances ...*apiv1.Instance) {
			t.Helper()
			sequence++
			if got := stream.Register(sequence, instances...); !strings.Contains(got, want) || (want == "") != (got == "") {
				t.Errorf("refusal %q, want %q", got, want)
			}
		}
		twin := instance("web", 81)
		same := instance("web", 80)
		same.Id = "web2"
		sick := instance("web", 80)
		sick.Health = 0
		other := instance("web", 80)
		other.NodeId = "somebody"
		f("", instance("web", 80), instance("web-2", 80))
		f(`may not run the service "orders"`, instance("orders", 80))
		f(`instance "web": port: port 0 is none`, instance("web", 0))
		f(`instance "web": the id is given twice`, instance("web", 80), twin)
		f("service web is on port 80 already as instance \"web\"", instance("web", 80), same)
		f("neither passing nor critical", sick)
		f("of another host", other)
		f("", instance("web", 80))
	})
}

func TestASilentHostIsLostAndComesBack(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		h := m.JoinFakeAgent("h1")
		a := h.Connect(m.Servers[1])
		b := m.JoinFakeAgent("h2").Connect(m.Servers[2])
		mustRegister(t, a, 1, instance("orders", 8080))
		m.Net.Isolate(h.Host)
		silent := time.Now()
		m.WaitFor("the host to be demoted", func() bool {
			got := endpoints(b, "orders")
			return len(got) == 1 && strings.HasSuffix(got[0], "LOST")
		})
		if gap := time.Since(silent); gap > 5*time.Second {
			t.Errorf("the host was demoted %v after it went silent", gap)
		}
		m.Net.Heal()
		a = h.Connect(m.Servers[0])
		m.WaitFor("the host to be back", func() bool {
			got := endpoints(b, "orders")
			return len(got) == 1 && strings.HasSuffix(got[0], "ALIVE")
		})
		if got := a.Welcome(); got.GetServer() != "s1" || len(got.GetServers()) != 3 {
			t.Errorf("the welcome was %v", got)
		}
	})
}

func TestAHostThatChangesServersIsNeverLost(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		h := m.JoinFakeAgent("h1")
		watcher := m.JoinFakeAgent("h2").Connect(m.Leader())
		for i := range 4 {
			stream := h.Connect(m.Servers[i%3])
			m.WaitFor("the stream", func() bool { return stream.Welcome() != nil })
			time.Sleep(2 * time.Second)
			stream.Break()
			time.Sleep(time.Second)
		}
		h.Connect(m.Servers[0])
		time.Sleep(10 * time.Second)
		for _, u := range watcher.Updates() {
			for _, n := range u.Nodes {
				if n.Name == "h1" && n.State == lost {
					t.Errorf("the host was lost in version %d", u.Version)
				}
			}
		}
		if got := nodeState(t, m, "h1"); got != alive {
			t.Errorf("in the end the host is %v", got)
		}
	})
}

func TestANewerStreamReplacesTheOlder(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		h := m.JoinFakeAgent("h1")
		f := func(first, second *meshtest.Server, want string) {
			t.Helper()
			a := h.Connect(first)
			m.WaitFor("the first stream", func() bool { return nodeState(t, m, "h1") == alive && len(a.Updates()) > 0 })
			h.Connect(second)
			if err := a.Err(); status.Code(err) != codes.Aborted || !strings.Contains(err.Error(), want) {
				t.Errorf("the first stream ended with %v, want %q", err, want)
			}
		}
		f(m.Servers[0], m.Servers[0], "newer stream to this server")
		f(m.Servers[0], m.Servers[1], "newer stream to another server")
	})
}

func TestGoodbye(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		stream := m.JoinFakeAgent("h1").Connect(m.Follower())
		m.WaitFor("the host to be alive", func() bool { return nodeState(t, m, "h1") == alive })
		stream.Send(&apiv1.AgentMessage{Message: &apiv1.AgentMessage_Goodbye{Goodbye: &apiv1.Goodbye{}}})
		stream.Err()
		if got := nodeState(t, m, "h1"); got != left {
			t.Errorf("once the stream ended the host is %v", got)
		}
	})
}

func TestTheHostsOfADeadServerAreLostUnlessTheyMove(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		dead := m.Follower()
		stays, moves := m.JoinFakeAgent("stays"), m.JoinFakeAgent("moves")
		for _, h := range []*meshtest.FakeAgent{stays, moves} {
			h.Connect(dead)
			m.WaitFor("the hosts to be alive", func() bool { return nodeState(t, m, h.Name) == alive })
		}
		dead.Crash()
		moves.Connect(m.Leader())
		m.WaitFor("the host that stays to be lost", func() bool { return nodeState(t, m, "stays") == lost })
		if got := nodeState(t, m, "moves"); got != alive {
			t.Errorf("the host that moved is %v", got)
		}
	})
}

func TestAServerEndsTheLeasesItHeldBeforeItsRestart(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		m.JoinFakeAgent("h1").Connect(m.Servers[0])
		m.WaitFor("the host to be alive", func() bool { return nodeState(t, m, "h1") == alive })
		m.Servers[0].Crash()
		m.Servers[0].Restart()
		<-m.Servers[0].Ready()
		if got := nodeState(t, m, "h1"); got != alive {
			t.Errorf("right after the restart the host is %v", got)
		}
		m.WaitFor("the host to be lost", func() bool { return nodeState(t, m, "h1") == lost })
	})
}

// The leader takes a server for dead that its hosts can still reach.
func TestALeaseThatWasEndedIsTakenAgain(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		apart := m.Follower()
		h := m.JoinFakeAgent("h1")
		h.Connect(apart)
		m.WaitFor("the host to be alive", func() bool { return nodeState(t, m, "h1") == alive })
		for _, s := range m.Servers {
			if s != apart {
				m.Net.Partition(hosts(apart), hosts(s))
			}
		}
		m.WaitFor("the host to be lost", func() bool { return nodeState(t, m, "h1") == lost })
		m.Net.Heal()
		m.WaitFor("the host to be alive again", func() bool { return nodeState(t, m, "h1") == alive })
	})
}

func hosts(s *meshtest.Server) []*memnet.Host { return []*memnet.Host{s.Host} }

func TestASlowAgentHoldsUpNobody(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		slow := m.JoinFakeAgent("slow").Connect(m.Servers[0])
		quick := m.JoinFakeAgent("quick").Connect(m.Servers[0])
		m.WaitFor("both slices", func() bool { return slow.Slice().Nodes["quick"] != nil && quick.Slice().Nodes["slow"] != nil })
		time.Sleep(time.Second)
		slow.Hold(true)
		before := len(slow.Updates())
		for i := range 5 {
			apply(t, m.Servers[0], service(fmt.Sprintf("svc-%d", i)))
			time.Sleep(time.Second)
		}
		if got := len(quick.Slice().Services); got != 5 {
			t.Errorf("the quick agent knows %d services", got)
		}
		if got := len(slow.Updates()) - before; got != 1 {
			t.Errorf("the slow agent was sent %d updates without an acknowledgement", got)
		}
		slow.Hold(false)
		m.WaitFor("the slow agent to catch up", func() bool { return len(slow.Slice().Services) == 5 })
		if got := len(slow.Updates()) - before; got != 2 {
			t.Errorf("the slow agent took %d updates to catch up", got)
		}
	})
}

func TestASliceIsResumed(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		h := m.JoinFakeAgent("h1")
		apply(t, m.Leader(), service("one"), service("two"))
		first := h.Connect(m.Servers[0])
		m.WaitFor("the slice", func() bool { return len(first.Slice().Services) == 2 })
		first.Break()
		apply(t, m.Leader(), service("three"))
		f := func(version uint64, snapshot bool, services int) {
			t.Helper()
			stream := h.ConnectWith(m.Servers[1], &apiv1.Hello{ClusterId: h.Reply.ClusterId, SliceVersion: version})
			m.WaitFor("the newest service", func() bool { return stream.Slice().Services["three"] != nil })
			if got := len(stream.Slice().Services); stream.Updates()[0].Snapshot != snapshot || got != services {
				t.Errorf("from version %d a host is sent %d services, in %v", version, got, stream.Updates())
			}
			stream.Break()
		}
		f(first.Slice().Version, false, 1)
		f(0, true, 3)
		f(1<<40, true, 3)
	})
}

// When a server comes back, it gets its share of the hosts little by little.
func TestAgentsAreSpreadOverTheServers(t *testing.T) {
	bubble(t, 2, func(t *testing.T, m *meshtest.Mesh) {
		one := m.Servers[0]
		var streams []*meshtest.FakeStream
		token := m.CreateToken(&apiv1.CreateTokenRequest{Reusable: true})
		for i := range 24 {
			h := m.NewFakeAgent(fmt.Sprintf("h%d", i))
			if err := h.EnrollWith(token, nil); err != nil {
				t.Fatal(err)
			}
			streams = append(streams, h.Connect(one))
		}
		asked := func() (n int) {
			for _, s := range streams {
				if moves := s.Moves(); len(moves) > 0 {
					if moves[0] != m.Servers[1].Address() {
						t.Errorf("a host is sent to %v", moves)
					}
					n++
				}
			}
			return n
		}
		m.WaitFor("a host to be asked to move", func() bool { return asked() > 0 })
		if n := asked(); n != 1 {
			t.Errorf("%d of 24 hosts are asked to move at once", n)
		}
	})
}

// What the agent says that it runs is put back when the state loses it.
func TestRegistrationsThatTheStateLostAreMended(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		h := m.JoinFakeAgent("h1")
		stream := h.Connect(m.Servers[0])
		mustRegister(t, stream, 1, instance("orders", 8080))
		m.WaitFor("the instance to be known", func() bool { return len(endpoints(stream, "orders")) == 1 })
		propose(t, m.Servers[0], &command.SetInstances{NodeId: h.Reply.Id, Remove: []string{"orders"}})
		m.WaitFor("the instance to be back", func() bool {
			reply, err := m.Servers[0].Admin().Status(t.Context(), &apiv1.StatusRequest{})
			return err == nil && reply.Instances == 1
		})
	})
}

func TestStreamsThatAreRefused(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		h := m.JoinFakeAgent("h1")
		stream := h.ConnectWith(m.Servers[0], &apiv1.Hello{ClusterId: "another"})
		if err := stream.Err(); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "is of mesh another") {
			t.Errorf("a host of another mesh got %v", err)
		}
		stream = h.ConnectWith(m.Servers[0], &apiv1.Hello{ClusterId: h.Reply.ClusterId, Address: "nowhere"})
		if err := stream.Err(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `"nowhere" is not an IP address`) {
			t.Errorf("a host without an address got %v", err)
		}
		stream = h.ConnectWith(m.Servers[0], &apiv1.Hello{ClusterId: h.Reply.ClusterId, Version: strings.Repeat("1", 65)})
		if err := stream.Err(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "longer than 64") {
			t.Errorf("an agent of a long version got %v", err)
		}
		stream = h.Connect(m.Servers[0])
		stream.Send(&apiv1.AgentMessage{Message: &apiv1.AgentMessage_Hello{Hello: &apiv1.Hello{}}})
		if err := stream.Err(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a second hello got %v", err)
		}
	})
}

func TestAcknowledgementsShowInStatus(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		stream := m.JoinFakeAgent("h1").Connect(m.Servers[0])
		m.WaitFor("the slice", func() bool { return len(stream.Updates()) > 0 })
		stream.Send(&apiv1.AgentMessage{Message: &apiv1.AgentMessage_Ack{
			Ack: &apiv1.Ack{Version: stream.Slice().Version, Problems: []string{"port 80 is taken"}},
		}})
		synctest.Wait()
		reply, err := m.Servers[0].Admin().Status(t.Context(), &apiv1.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if len(reply.Agents) != 1 || reply.Agents[0].Node != "h1" || reply.Agents[0].Version != stream.Slice().Version || len(reply.Agents[0].Problems) != 1 {
			t.Errorf("status shows agents %v", reply.Agents)
		}
	})
}

// What the agents of another server run shows too, and a server that does not
// answer is named.
func TestStatusTellsOfTheAgentsOfAllServers(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		for i, s := range m.Servers {
			stream := m.JoinFakeAgent(fmt.Sprintf("h%d", i)).Connect(s)
			m.WaitFor("the slice", func() bool { return len(stream.Updates()) > 0 })
		}
		synctest.Wait()
		f := func(agents, silent string) {
			t.Helper()
			reply, err := m.Leader().Admin().Status(t.Context(), &apiv1.StatusRequest{})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, a := range reply.Agents {
				names = append(names, a.Node)
			}
			if got := strings.Join(names, " "); got != agents {
				t.Errorf("status shows the agents %s, want %s", got, agents)
			}
			if got := strings.Join(reply.SilentServers, " "); got != silent {
				t.Errorf("status says that %q did not answer, want %q", got, silent)
			}
		}
		f("h0 h1 h2", "")
		apart := m.Follower()
		for _, s := range m.Servers {
			if s != apart {
				m.Net.Partition(hosts(apart), hosts(s))
			}
		}
		var others []string
		for i, s := range m.Servers {
			if s != apart {
				others = append(others, fmt.Sprintf("h%d", i))
			}
		}
		f(strings.Join(others, " "), apart.Name)
		m.Net.Heal()
	})
}

func TestTheGenerationOfCertificatesShowsInStatus(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		stream := m.JoinFakeAgent("h1").Connect(m.Servers[0])
		m.WaitFor("the slice", func() bool { return len(stream.Updates()) > 0 })
		stream.Send(&apiv1.AgentMessage{Message: &apiv1.AgentMessage_Ack{
			Ack: &apiv1.Ack{Version: stream.Slice().Version, AuthorityGeneration: 7},
		}})
		synctest.Wait()
		reply, err := m.Servers[0].Admin().Status(t.Context(), &apiv1.StatusRequest{})
		if err != nil || len(reply.Agents) != 1 || reply.Agents[0].AuthorityGeneration != 7 {
			t.Errorf("status shows %v, %v", reply.GetAgents(), err)
		}
	})
}

func TestSign(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		h := m.JoinFakeAgent("h1")
		s := m.Follower()
		mustRegister(t, h.Connect(m.Leader()), 1, instance("orders", 8080))
		f := func(service, want string) {
			t.Helper()
			chain, err := h.Sign(s, service)
			if want != "" {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("signing for %q gave %v, want %q", service, err, want)
				}
				return
			}
			if err != nil {
				t.Errorf("signing for %q gave %v", service, err)
				return
			}
			if _, err := pki.Pool(chain[2]); err != nil || len(chain) != 3 {
				t.Errorf("the chain for %q has %d certificates (%v)", service, len(chain), err)
			}
		}
		f("orders", "")
		f("", "")
		f("billing", `no instance of service "billing" registered`)
		h.NewKey()
		f("orders", "") // a service's key is the host's business
		f("", "known by another key")
	})
}
