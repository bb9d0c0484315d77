package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// New boots a lab for a test and ends it with the test. When the test fails,
// the hosts' journals are logged first.
//
// Where no lab can run the test is skipped with the reason, unless the
// environment has MESHD_LAB=require: then it fails. MESHD_LAB=off skips always.
func New(t testing.TB, o Options) *Lab {
	t.Helper()
	needLab(t)
	o.Logf = t.Logf
	started := time.Now()
	l, err := Start(t.Context(), o)
	if err != nil {
		t.Fatalf("starting the lab: %v", err)
	}
	t.Logf("booted %d hosts in %s", len(o.Hosts), time.Since(started).Round(time.Millisecond))
	t.Cleanup(func() {
		if t.Failed() {
			l.logJournals(t, o.Units)
		}
		if err := l.Close(); err != nil {
			t.Errorf("closing the lab: %v", err)
		}
	})
	return l
}

func needLab(t testing.TB) {
	t.Helper()
	reason := unavailable()
	switch {
	case reason == "":
	case os.Getenv("MESHD_LAB") == "require":
		t.Fatalf("no lab: %s", reason)
	default:
		t.Skipf("no lab: %s", reason)
	}
}

func (l *Lab) logJournals(t testing.TB, units []string) {
	// The test's own context has ended.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, h := range l.hosts {
		journal, err := h.Journal(ctx, units...)
		if err != nil {
			t.Logf("no journal: %v", err)
			continue
		}
		t.Logf("journal of host %s:\n%s", h.Name, journal)
	}
}

// unavailable says why no lab can run here and what to do about it; empty
// means that one can.
func unavailable() string {
	if os.Getenv("MESHD_LAB") == "off" {
		return "MESHD_LAB=off"
	}
	if os.Getuid() != 0 {
		return "booting hosts needs root: run `sudo make test`"
	}
	for _, tool := range []struct{ name, pkg string }{
		{"mmdebstrap", "mmdebstrap"}, {"systemd-nspawn", "systemd-container"},
		{"unshare", "util-linux"}, {"nsenter", "util-linux"}, {"mount", "mount"}, {"ip", "iproute2"},
	} {
		if _, err := exec.LookPath(tool.name); err != nil {
			return fmt.Sprintf("%s is missing: run `apt-get install %s`", tool.name, tool.pkg)
		}
	}
	if out, err := exec.Command("unshare", "--mount", "--net", "mount", "-t", "cgroup2", "cgroup2", "/mnt").CombinedOutput(); err != nil {
		return fmt.Sprintf("this machine lets root make no namespaces or mounts (%v: %.200s): use a privileged container or a virtual machine", err, out)
	}
	return ""
}
