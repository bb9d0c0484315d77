package hosts

import (
	"encoding/json"
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

// checkLog insists on key-value pairs in every line that a unit has logged.
func (m *mesh) checkLog(t *testing.T, host, unit string) {
	t.Helper()
	log := m.run(t, host, "journalctl --no-pager --output=cat _SYSTEMD_UNIT="+unit+".service")
	if log == "" {
		t.Errorf("%s logged nothing on %s", unit, host)
	}
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "=") && !strings.HasPrefix(line, "{") {
			t.Errorf("%s logged %q, which has no key", unit, line)
		}
		if strings.Contains(line, "mesh1.") || strings.Contains(line, "PRIVATE KEY") {
			t.Errorf("%s logged a secret: %.40q", unit, line)
		}
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
