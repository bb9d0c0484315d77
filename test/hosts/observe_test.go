package hosts

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func (m *mesh) observe(t *testing.T) {
	m.checkMembers(t)
	for host, url := range map[string]string{"h1": "http://127.0.0.1:7302/metrics", "h4": "http://127.0.0.1:8500/metrics"} {
		metrics := m.run(t, host, "curl --silent --show-error --fail "+url)
		if n := strings.Count(metrics, "\nmeshd_"); n < 5 {
			t.Errorf("%s on %s has %d series of meshd:\n%s", url, host, n, metrics)
		}
	}
	m.checkCounts(t)
	for _, unit := range []string{"meshd-server", "meshd-agent"} {
		m.checkLog(t, "h1", unit)
	}
}

func (m *mesh) checkMembers(t *testing.T) {
	for _, host := range []string{"h1", "h4"} { // asked of a server, and of an agent
		members := &apiv1.MembersReply{}
		if err := m.read(t.Context(), host, "meshd members", members); err != nil {
			t.Fatal(err)
		}
		if len(members.Servers) != 3 || len(members.Nodes) != 4 {
			t.Errorf("%s lists %d servers and %d hosts, want 3 and 4", host, len(members.Servers), len(members.Nodes))
		}
	}
	for _, listing := range []string{"meshd status", "meshd members", "meshd service list", "meshd service show orders"} {
		if out := m.run(t, "h4", listing+" -o json"); !json.Valid([]byte(out)) {
			t.Errorf("%s -o json printed %q", listing, out)
		}
		if out := m.run(t, "h4", listing); !strings.Contains(out, "\n") {
			t.Errorf("%s printed %q", listing, out)
		}
	}
}

// checkCounts has web call orders, which both sides must count as such.
func (m *mesh) checkCounts(t *testing.T) {
	t.Helper()
	requests := func(direction string, hosts ...string) (n int) {
		t.Helper()
		labels := []string{`direction="` + direction + `"`, `dst="orders"`, `src="web"`, `status_class="2xx"`}
		for _, host := range hosts {
			for line := range strings.Lines(m.run(t, host, "curl --silent --show-error --fail http://127.0.0.1:8500/metrics")) {
				series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
				has := func(label string) bool { return strings.Contains(series, label) }
				if count, err := strconv.Atoi(value); err == nil && has("meshd_requests_total{") && !slices.ContainsFunc(labels, func(l string) bool { return !has(l) }) {
					n += count
				}
			}
		}
		return n
	}
	const calls = 7
	out, in := requests("outbound", "h4"), requests("inbound", "h1", "h2")
	m.run(t, "h4", as("web", fmt.Sprintf("curl --silent --fail 'http://orders.mesh/?[1-%d]'", calls)))
	out, in = requests("outbound", "h4")-out, requests("inbound", "h1", "h2")-in
	t.Logf("%d calls of web to orders raised meshd_requests_total by %d on the caller's host and by %d where orders runs", calls, out, in)
	if out != calls || in != calls {
		t.Errorf("%d calls were counted as %d by the caller's agent and as %d by the called ones", calls, out, in)
	}
}

// checkLog insists that every line that a unit has logged is an object with a
// level and a message.
func (m *mesh) checkLog(t *testing.T, host, unit string) {
	t.Helper()
	log := m.run(t, host, "journalctl --no-pager --output=cat _SYSTEMD_UNIT="+unit+".service")
	if log == "" {
		t.Errorf("%s logged nothing on %s", unit, host)
	}
	lines, keys := 0, 0
	for line := range strings.Lines(log) {
		var entry map[string]any
		err := json.Unmarshal([]byte(line), &entry)
		level, _ := entry["level"].(string)
		message, _ := entry["msg"].(string)
		if err != nil || level == "" || message == "" {
			t.Errorf("%s logged %q, which has no level and msg", unit, line)
		}
		if strings.Contains(line, "mesh1.") || strings.Contains(line, "PRIVATE KEY") {
			t.Errorf("%s logged a secret: %.40q", unit, line)
		}
		lines, keys = lines+1, keys+len(entry)-2
	}
	if t.Logf("%s has logged %d lines with %d values", unit, lines, keys); keys <= 0 {
		t.Errorf("no line of %s has more than a level and a message", unit)
	}
}

// idle measures processor time, which no load of the machine changes much.
func (m *mesh) idle(t *testing.T) {
	const seconds = 5
	for _, unit := range []string{"meshd-server", "meshd-agent"} {
		usage := "awk '$1 == \"usage_usec\" {print $2}' /sys/fs/cgroup/system.slice/" + unit + ".service/cpu.stat"
		out := strings.Fields(m.run(t, "h1", usage+"; sleep "+strconv.Itoa(seconds)+"; "+usage))
		before, err1 := strconv.Atoi(out[0])
		after, err2 := strconv.Atoi(out[1])
		if err1 != nil || err2 != nil {
			t.Fatalf("the processor time of %s is %q", unit, out)
		}
		percent := float64(after-before) / 1e6 / seconds * 100
		t.Logf("%s takes %.1f %% of a core", unit, percent)
		if percent > 10 {
			t.Errorf("%s takes %.1f %% of a core though nothing happens", unit, percent)
		}
	}
}
