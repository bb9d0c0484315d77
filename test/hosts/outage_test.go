package hosts

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
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
	w := &writes{mesh: m, host: writer}
	w.write(t, 10)
	killed := time.Now()
	m.run(t, leader, "systemctl kill --signal=KILL meshd-server")
	eventually(t, func() error { return w.one(t) })
	t.Logf("leader %s killed: the next write was acknowledged after %s", leader, millis(time.Since(killed)))
	w.write(t, 10)
	calls.stop(t)
	w.check(t)

	took := eventually(t, func() error {
		s, err := m.status(t.Context(), writer)
		if alive, leaders := countServers(s); err == nil && (alive != 3 || leaders != 1) {
			return fmt.Errorf("%d of 3 voters are alive, %d lead", alive, leaders)
		}
		return err
	})
	t.Logf("three servers again after %s", millis(took))
}

// killServers leaves the hosts without any server for a while.
func (m *mesh) killServers(t *testing.T) {
	before := m.snapshot(t, "h1")
	for _, host := range servers {
		m.write(t, host, "/etc/systemd/system/meshd-server.service.d/lab.conf", "[Service]\nRestart=no\n")
		m.run(t, host, "systemctl daemon-reload")
	}
	calls := m.startLoop(t, "h4", "http://orders.mesh/")
	for _, host := range servers {
		m.run(t, host, "systemctl kill --signal=KILL meshd-server")
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
	m.waitPassing(t, servers[0], "late", 1)
	t.Logf("with two of three servers started, a registration was done after %s", millis(time.Since(started)))
	m.waitOutput(t, "h3", "dig +short late.service.mesh", m.Host("h4").Address.String())
	m.run(t, servers[2], "systemctl start meshd-server")
	calls.stop(t)

	for _, host := range servers {
		if after := m.snapshot(t, host); after != before {
			t.Errorf("%s came back with\n%s\ninstead of\n%s", host, after, before)
		}
	}
}

// checkWithoutServers restarts an agent and calls from its host.
func (m *mesh) checkWithoutServers(t *testing.T) {
	m.run(t, "h3", "systemctl restart meshd-agent")
	took := m.waitOutput(t, "h3", httpStatus+"http://orders.mesh/", "200")
	t.Logf("no server: an agent that was restarted serves calls after %s", millis(took))
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
	return s.Cluster.String() + "\n" + out
}

// writes are resources written one by one; those that were acknowledged must
// stay.
type writes struct {
	*mesh
	host  string
	next  int
	acked []string
}

func (w *writes) one(t *testing.T) error {
	t.Helper()
	w.next++
	name := fmt.Sprintf("written-%d", w.next)
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

func (w *writes) check(t *testing.T) {
	t.Helper()
	there := w.run(t, w.host, "meshd get service -o json")
	for _, name := range w.acked {
		if !strings.Contains(there, `"`+name+`"`) {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
	t.Logf("%d of %d writes acknowledged, all there", len(w.acked), w.next)
}
