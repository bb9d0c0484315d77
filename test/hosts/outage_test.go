package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// callerLoop calls until its standard input ends, resolving the name and
// connecting anew each time. It prints each failure, and in the end the count of
// calls and the slowest one in milliseconds.
const callerLoop = `
import select, sys, time, urllib.request
calls, slowest = 0, 0
while not select.select([sys.stdin], [], [], 0.005)[0]:
    calls, begun = calls + 1, time.monotonic()
    try:
        urllib.request.urlopen(sys.argv[1], timeout=10).read()
    except Exception as e:
        print(time.strftime('%H:%M:%S'), repr(e), flush=True)
    slowest = max(slowest, time.monotonic() - begun)
print('calls', calls, 'slowest', int(slowest * 1000))
`

// A loop of calls goes on beside whatever a test does.
type loop struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	output bytes.Buffer
}

func (m *mesh) startLoop(t *testing.T, host, url string) *loop {
	t.Helper()
	l := &loop{cmd: m.Host(host).Command(t.Context(), "python3", "-u", "-c", callerLoop, url)}
	l.cmd.Stdout, l.cmd.Stderr = &l.output, &l.output
	stdin, err := l.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.stdin = stdin
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return l
}

// stop ends the loop and insists that there were calls and that none failed.
func (l *loop) stop(t *testing.T) {
	t.Helper()
	l.stdin.Close()
	if err := l.cmd.Wait(); err != nil {
		t.Fatalf("the loop of calls: %v\n%s", err, l.output.String())
	}
	lines := strings.Split(strings.TrimSpace(l.output.String()), "\n")
	failures := lines[:len(lines)-1]
	var calls, slowest int
	if _, err := fmt.Sscanf(lines[len(lines)-1], "calls %d slowest %d", &calls, &slowest); err != nil || calls == 0 {
		t.Fatalf("the loop of calls said %q", lines)
	}
	t.Logf("%d calls meanwhile, %d failed, the slowest took %d ms", calls, len(failures), slowest)
	if len(failures) > 0 {
		t.Errorf("%d calls failed, such as:\n%s", len(failures), strings.Join(failures[:min(5, len(failures))], "\n"))
	}
}

const everyoneMayCall = `{name: all, from: ["*"]}`

func (m *mesh) leader(t *testing.T, ask string) string {
	t.Helper()
	var leader string
	eventually(t, func() error {
		s, err := m.status(t.Context(), ask)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(s.Servers, func(s *apiv1.ServerStatus) bool { return s.Leader })
		if i < 0 {
			return fmt.Errorf("no server leads")
		}
		leader = s.Servers[i].Name
		return nil
	})
	return leader
}

// killLeader writes resources one after the other while the leader is killed.
func (m *mesh) killLeader(t *testing.T) {
	m.apply(t, "h1", ordersPolicy(everyoneMayCall))
	m.waitOutput(t, "h4", httpStatus+"http://orders.mesh/", "200")
	calls := m.startLoop(t, "h4", "http://orders.mesh/")

	leader := m.leader(t, "h1")
	writer := servers[(slices.Index(servers, leader)+1)%len(servers)]
	w := &writes{mesh: m, host: writer, prefix: "written"}
	w.write(t, 10)
	killed := time.Now()
	m.run(t, leader, "systemctl kill --signal=KILL meshd-server")
	eventually(t, func() error { return w.one(t) })
	t.Logf("leader %s killed: no write was acknowledged for %s", leader, millis(time.Since(killed)))
	w.write(t, 10)
	calls.stop(t)

	took := eventually(t, func() error {
		s, err := m.status(t.Context(), writer)
		if alive, leaders := countServers(s); err == nil && (alive != 3 || leaders != 1) {
			return fmt.Errorf("%d of 3 voters are alive, %d lead", alive, leaders)
		}
		return err
	})
	t.Logf("three servers again after %s", millis(took))
	w.check(t)
}

// killServers leaves the hosts without any server for a while.
func (m *mesh) killServers(t *testing.T) {
	before := m.snapshot(t, "h1")
	for _, host := range servers {
		m.write(t, host, "/etc/systemd/system/meshd-server.service.d/lab.conf", "[Service]\nRestart=no\n")
		m.run(t, host, "systemctl daemon-reload")
	}
	calls := m.startLoop(t, "h4", "http://orders.mesh/")
	m.onServers(t, "systemctl kill --signal=KILL meshd-server")
	for _, host := range servers {
		m.waitOutput(t, host, "systemctl is-active meshd-server || true", "failed")
	}
	m.checkWithoutServers(t)
	m.run(t, "h4", "sleep 8") // longer than any lease
	calls.stop(t)

	calls = m.startLoop(t, "h4", "http://orders.mesh/")
	m.write(t, "h4", "/etc/meshd/services.d/late.yaml", "name: late\nport: 3002\n")
	started := time.Now()
	for _, host := range servers[:2] {
		m.run(t, host, "systemctl start --no-block meshd-server")
	}
	w := &writes{mesh: m, host: servers[0], prefix: "back"}
	eventually(t, func() error { return w.one(t) })
	t.Logf("with two of three servers started, the first write was accepted after %s", millis(time.Since(started)))
	m.waitPassing(t, servers[0], "late", 1)
	t.Logf("a registration from meanwhile was done after %s", millis(time.Since(started)))
	m.waitOutput(t, "h3", "dig +short late.service.mesh", m.Host("h4").Address.String())
	m.run(t, servers[2], "systemctl start meshd-server")
	calls.stop(t)

	w.check(t)
	w.undo(t)
	for _, host := range servers {
		if after := m.snapshot(t, host); after != before {
			t.Errorf("%s came back with\n%s\ninstead of\n%s", host, after, before)
		}
	}
}

// onServers runs a script on all servers at the same time.
func (m *mesh) onServers(t *testing.T, script string) {
	t.Helper()
	var all sync.WaitGroup
	for _, host := range servers {
		all.Go(func() {
			if _, err := m.try(t.Context(), host, script); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// checkWithoutServers restarts an agent. When systemd says that it runs, the
// first call and the first question must succeed.
func (m *mesh) checkWithoutServers(t *testing.T) {
	started := time.Now()
	m.run(t, "h3", "systemctl restart meshd-agent")
	restarted := time.Since(started)
	if got := m.run(t, "h3", httpStatus+"http://orders.mesh/ || true"); got != "200" {
		t.Errorf("without servers, the first call after a restart of the agent said %s", got)
	}
	m.run(t, "h3", "systemctl restart meshd-agent")
	if got := m.run(t, "h3", "dig +short +tries=1 orders.mesh"); got == "" {
		t.Error("without servers, the first question after a restart of the agent had no answer")
	}
	t.Logf("no server: an agent restarted in %s serves the first call and answers the first question", millis(restarted))
	if got, want := m.run(t, "h3", "dig +short orders.service.mesh | wc -l"), "2"; got != want {
		t.Errorf("without servers DNS has %s instances of orders, want %s", got, want)
	}
	if out, err := m.try(t.Context(), "h3", "meshd status 2>&1"); err == nil {
		t.Errorf("meshd status did not tell that no server answers: %s", out)
	}
}

// snapshot is everything that was written, without what changes by itself.
func (m *mesh) snapshot(t *testing.T, host string) string {
	t.Helper()
	var out string
	eventually(t, func() (err error) {
		out, err = m.try(t.Context(), host, "set -e; for kind in service route policy; do meshd get $kind -o json; done; meshd token list -o json")
		return err
	})
	s, err := m.status(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	return s.Cluster.String() + "\n" + out + "\n" + m.catalogue(t, host)
}

// catalogue is what agents have registered: the hosts and, of the services
// there were before any outage, the instances and the loopback addresses.
func (m *mesh) catalogue(t *testing.T, host string) string {
	t.Helper()
	members, list := &apiv1.MembersReply{}, &apiv1.ListServicesReply{}
	if err := errors.Join(m.read(t.Context(), host, "meshd members", members), m.read(t.Context(), host, "meshd service list", list)); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, n := range members.Nodes {
		lines = append(lines, fmt.Sprintf("host %s %s %s:%d created %d", n.Id, n.Name, n.Address, n.InboundPort, n.CreateIndex))
	}
	for _, s := range list.Services {
		if !slices.Contains([]string{"orders", "greeter", "web", "batch", "shaky"}, s.Name) {
			continue
		}
		lines = append(lines, fmt.Sprintf("service %s is number %d and has address %s", s.Name, s.Vip, m.run(t, host, "dig +short "+s.Name+".mesh")))
		for _, e := range s.Endpoints {
			lines = append(lines, fmt.Sprintf("instance of %s: %s on %s, port %d, %v, %v", s.Name, e.Id, e.Node, e.Port, e.Meta, e.Protocol))
		}
	}
	if len(lines) < 4+5+6 {
		t.Errorf("%s lists too little: %q", host, lines)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// writes are resources written one by one; those that were acknowledged must
// stay.
type writes struct {
	*mesh
	host   string
	prefix string // of their names
	next   int
	acked  []string
}

func (w *writes) one(t *testing.T) error {
	t.Helper()
	w.next++
	name := w.name(w.next)
	w.mesh.write(t, w.host, "/root/write.yaml", "kind: service\nname: "+name+"\n")
	_, err := w.try(t.Context(), w.host, "meshd apply -f /root/write.yaml")
	if err == nil {
		w.acked = append(w.acked, name)
	}
	return err
}

func (w *writes) write(t *testing.T, n int) {
	t.Helper()
	for range n {
		if err := w.one(t); err != nil {
			t.Fatal(err)
		}
	}
}

// undo deletes what was written. A write without an acknowledgement may be there
// or not.
func (w *writes) undo(t *testing.T) {
	t.Helper()
	for n := range w.next {
		w.run(t, w.host, fmt.Sprintf("meshd get service %[1]s >/dev/null 2>&1 || exit 0; meshd delete service %[1]s", w.name(n+1)))
	}
}

func (w *writes) name(n int) string { return fmt.Sprintf("%s-%d", w.prefix, n) }

// check reads what was acknowledged from every server's own state.
func (w *writes) check(t *testing.T) {
	t.Helper()
	for _, host := range servers {
		eventually(t, func() error {
			there, err := w.try(t.Context(), host, "meshd get service --stale -o json")
			for _, name := range w.acked {
				if err == nil && !strings.Contains(there, `"`+name+`"`) {
					err = fmt.Errorf("%s was acknowledged and is not on %s", name, host)
				}
			}
			return err
		})
	}
	t.Logf("%d of %d writes were acknowledged, all of them are on every server", len(w.acked), w.next)
}
