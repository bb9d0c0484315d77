package hosts

import (
	"strings"
	"testing"
	"time"
)

// Two fresh hosts, one with an application: six commands to a call between
// them, no file edited, no key or secret copied. (The join line is pasted; its
// token is worth one join within the hour.)
func TestSixCommands(t *testing.T) {
	m := newMesh(t, "vm1", "vm2")
	for _, host := range []string{"vm1", "vm2"} {
		m.run(t, host, "mv /usr/local/bin/meshd /opt/meshd") // as if just downloaded
	}
	m.write(t, "vm1", "/srv/orders/index.html", "the orders\n")
	m.nginx(t, "vm1", "orders", 8080)

	started := time.Now()
	commands := 0
	command := func(host, line string) string {
		t.Helper()
		commands++
		begun := time.Now()
		out := m.run(t, host, line)
		t.Logf("%-3s# %.60s  (%s)", host, line, millis(time.Since(begun)))
		return out
	}
	command("vm1", "install -m 755 /opt/meshd /usr/local/bin/")
	token := joinToken(t, command("vm1", "meshd init"))
	command("vm1", "meshd service add orders --port 8080")
	command("vm2", "install -m 755 /opt/meshd /usr/local/bin/")
	command("vm2", "meshd join "+token)
	answer := command("vm2", "curl --silent --show-error --fail http://orders.mesh/")
	took := time.Since(started)

	if answer != "the orders" {
		t.Errorf("the call was answered by %q", answer)
	}
	t.Logf("%d commands, 0 files edited, 0 keys or secrets copied; first call after %s", commands, millis(took))
	if out, err := m.try(t.Context(), "vm1", "meshd join "+token); err == nil {
		t.Errorf("a host of the mesh joined again: %s", out)
	}
	for _, host := range []string{"vm1", "vm2"} {
		keys := m.run(t, host, "grep --recursive --files-with-matches 'PRIVATE KEY' /var/lib/meshd | xargs stat --format='%a %U %n'")
		if keys == "" {
			t.Errorf("no key was found on %s", host)
		}
		for key := range strings.Lines(keys) {
			if !strings.HasPrefix(key, "600 meshd ") {
				t.Errorf("on %s a key is readable for others: %s", host, key)
			}
		}
	}
}
