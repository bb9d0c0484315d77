package hosts

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/jointoken"
)

// The whole way, once: three servers and a host, real applications, all that
// the foundation promises. Each step builds on the ones before.
func TestWholeWay(t *testing.T) {
	m := newMesh(t, "h1", "h2", "h3", "h4")
	step(t, "three servers form one cluster", m.formCluster)
	step(t, "services are declared by command and by file", m.declareServices)
	step(t, "names resolve", m.resolveNames)
	step(t, "http and tcp calls reach other hosts", m.callServices)
	step(t, "no application byte crosses the network in clear", m.capture)
	step(t, "health checks take instances out and back", m.failCheck)
	step(t, "routes split by path and weight", m.route)
	step(t, "policies tell callers apart", m.policies)
	step(t, "the called side checks callers by itself", m.calledSide)
	step(t, "timeouts and retries hold", m.limits)
	step(t, "a change acts on every host", m.changes)
	step(t, "a wrong file changes nothing", m.refuse)
	step(t, "status, metrics and logs tell what goes on", m.observe)
	step(t, "an idle mesh costs next to nothing", m.idle)
	step(t, "the leader is killed", m.killLeader)
	step(t, "all servers are killed", m.killServers)
}

var servers = []string{"h1", "h2", "h3"}

func (m *mesh) formCluster(t *testing.T) {
	token := joinToken(t, m.run(t, "h1", "meshd init"))
	for _, host := range []string{"h2", "h3"} {
		m.run(t, host, "meshd join --server "+joinToken(t, m.run(t, "h1", "meshd token create --server")))
	}
	m.refuseImpostor(t, token)
	m.run(t, "h4", "meshd join "+token)

	took := eventually(t, func() error {
		s, err := m.status(t.Context(), "h1")
		if err != nil {
			return err
		}
		if alive, leaders := countServers(s); alive != 3 || leaders != 1 || s.NodesAlive != 4 {
			return fmt.Errorf("%d of 3 voters are alive, %d lead, %d of 4 hosts are alive", alive, leaders, s.NodesAlive)
		}
		return nil
	})
	t.Logf("all are members %s after the last join", millis(took))
}

// refuseImpostor joins with a token that expects another mesh's authority. The
// host must notice before it shows the secret: the real token, which is good for
// one use, has to work afterwards.
func (m *mesh) refuseImpostor(t *testing.T, text string) {
	token, err := jointoken.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	token.Pin[0] ^= 1
	if out, err := m.try(t.Context(), "h4", "meshd join "+token.Encode()+" 2>&1"); err == nil {
		t.Errorf("a host joined a mesh whose authority its token does not know: %s", out)
	}
}

func countServers(s *apiv1.StatusReply) (alive, leaders int) {
	for _, server := range s.Servers {
		if server.Alive && server.Voter {
			alive++
		}
		if server.Leader {
			leaders++
		}
	}
	return alive, leaders
}

// The TCP service speaks first, which no mesh that guesses protocols likes.
const greeter = `
import socketserver, socket
class Greeter(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b'hello from %s\n' % socket.gethostname().encode())
        for line in self.rfile:
            self.wfile.write(line.upper())
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(('127.0.0.1', 9000), Greeter).serve_forever()
`

// files serves /srv/orders, after as many milliseconds as /srv/delay says for
// all but the health check.
const files = `
import functools, http.server, time
class Files(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path != '/healthz':
            with open('/srv/delay') as f:
                time.sleep(int(f.read()) / 1000)
        super().do_GET()
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(('127.0.0.1', 8080), functools.partial(Files, directory='/srv/orders')).serve_forever()
`

// declareServices runs orders on h1 (nginx, version 1) and on h2 (Python,
// version 2), and greeter on h1.
func (m *mesh) declareServices(t *testing.T) {
	for i, host := range []string{"h1", "h2"} {
		text := fmt.Sprintf("orders version %d on %s\n", i+1, host)
		for _, path := range []string{"index.html", "healthz", "v2/index.html"} {
			m.write(t, host, "/srv/orders/"+path, text)
		}
	}
	m.nginx(t, "h1", "orders", 8080)
	m.write(t, "h2", "/srv/delay", "0")
	m.write(t, "h2", "/opt/files.py", files)
	m.application(t, "h2", "orders", "/usr/bin/python3 -u /opt/files.py")
	m.write(t, "h1", "/opt/greeter.py", greeter)
	m.application(t, "h1", "greeter", "/usr/bin/python3 -u /opt/greeter.py")

	m.run(t, "h1", `meshd service add orders --port 8080 --check http:/healthz --meta version=1`)
	m.run(t, "h1", `meshd service add greeter --port 9000 --check tcp`)
	m.write(t, "h2", "/etc/meshd/services.d/orders.yaml", `name: orders
port: 8080
protocol: http
check: http:/healthz
meta: {version: "2"}
`)
	t.Logf("the servers know both instances of orders after %s", millis(m.waitPassing(t, "h4", "orders", 2)))
	m.waitPassing(t, "h4", "greeter", 1)
	for _, host := range []string{"h3", "h4"} { // whose agents hear of it a moment later
		m.waitOutput(t, host, "dig +short orders.service.mesh | wc -l", "2")
		m.waitOutput(t, host, "dig +short greeter.service.mesh | wc -l", "1")
	}
}

func (m *mesh) resolveNames(t *testing.T) {
	lines := func(host, script string) []string {
		out := strings.Fields(m.run(t, host, script))
		slices.Sort(out)
		return out
	}
	check := func(what string, got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	addresses := []string{m.Host("h1").Address.String(), m.Host("h2").Address.String()}

	virtual := lines("h4", "dig +short orders.mesh")
	if len(virtual) != 1 || !strings.HasPrefix(virtual[0], "127.") {
		t.Fatalf("orders.mesh is %q, want one loopback address", virtual)
	}
	check("orders.mesh on h3", lines("h3", "dig +short orders.mesh"), virtual...)
	check("orders.mesh for applications", lines("h4", "getent ahostsv4 orders.mesh | awk '$2 == \"STREAM\" {print $1}'"), virtual...)
	check("orders.service.mesh", lines("h4", "dig +short orders.service.mesh"), addresses...)
	check("orders.service.mesh asked of the agent", lines("h4", "dig +short @127.0.0.1 -p 8600 orders.service.mesh"), addresses...)
	check("the same over TCP", lines("h4", "dig +short +tcp @127.0.0.1 -p 8600 orders.service.mesh"), addresses...)
	check("an unknown name", lines("h4", "dig @127.0.0.1 -p 8600 nothing.mesh | grep -o 'status: [A-Z]*'"), "NXDOMAIN", "status:")

	for _, name := range []string{"orders.service.mesh", "_orders._tcp.service.mesh"} {
		srv := strings.Split(m.run(t, "h4", "dig +short SRV "+name), "\n")
		if len(srv) != 2 {
			t.Errorf("SRV %s: got %q, want two", name, srv)
		}
		var hosts []string
		for _, record := range srv {
			fields := strings.Fields(record)
			if len(fields) != 4 || fields[2] != "8080" {
				t.Fatalf("SRV %s has %q, want port 8080", name, record)
			}
			hosts = append(hosts, lines("h4", "dig +short "+fields[3])...)
		}
		slices.Sort(hosts)
		check("the targets of SRV "+name, hosts, addresses...)
	}
}

func (m *mesh) callServices(t *testing.T) {
	m.run(t, "h3", "curl --silent --show-error --fail http://orders.mesh/")
	m.balance(t)
	m.run(t, "h4", "curl --silent --show-error --fail http://orders.mesh:8080/")

	const talk = `exec 3<>/dev/tcp/greeter.mesh/9000; read -r hello <&3; echo "$hello"; echo shout >&3; read -r echo <&3; echo "$echo"`
	for _, host := range []string{"h1", "h4"} { // by way of one agent, and of two
		if got := m.run(t, host, talk); got != "hello from h1\nSHOUT" {
			t.Errorf("on %s greeter said %q", host, got)
		}
	}
}

// balance makes one of two instances slow: it must get the fewer calls, but
// not none, since those that wait at the quick one count, too.
func (m *mesh) balance(t *testing.T) {
	const calls = 400
	m.write(t, "h2", "/srv/delay", "40")
	answers := m.run(t, "h4", fmt.Sprintf("curl --silent --show-error --fail --parallel --parallel-max 20 'http://orders.mesh/?[1-%d]' 2>/dev/null", calls))
	m.write(t, "h2", "/srv/delay", "0")
	quick, slow := strings.Count(answers, "on h1"), strings.Count(answers, "on h2")
	t.Logf("of 20 calls at once the quick instance got %d in all, the one that takes 40 ms longer %d", quick, slow)
	if quick+slow != calls {
		t.Errorf("%d of %d calls were answered", quick+slow, calls)
	}
	if slow == 0 || slow > quick/2 {
		t.Errorf("the slow instance got %d calls, the quick one %d", slow, quick)
	}
}

// failCheck breaks the check of one instance, while its application serves on.
func (m *mesh) failCheck(t *testing.T) {
	m.run(t, "h1", "mv /srv/orders/healthz /srv/orders/broken")
	took := m.waitOutput(t, "h4", "dig +short orders.service.mesh", m.Host("h2").Address.String())
	t.Logf("the failing instance left DNS on h4 after %s", millis(took))
	if answers := m.run(t, "h4", "curl --silent --show-error --fail 'http://orders.mesh/?[1-20]'"); strings.Contains(answers, "on h1") {
		t.Errorf("calls still went to the failing instance: %s", answers)
	}
	m.run(t, "h1", "mv /srv/orders/broken /srv/orders/healthz")
	t.Logf("it was back after %s", millis(m.waitPassing(t, "h4", "orders", 2)))
}
