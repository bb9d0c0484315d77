package host

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

func TestEnsureUnits(t *testing.T) {
	f := newFakeHost(t)
	if err := f.EnsureUnits(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.took(t, "systemctl daemon-reload")
	unit, err := os.ReadFile(f.path("/etc/systemd/system/meshd-agent.service"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(unit), "\nExecStart=/opt/meshd/bin/meshd agent\n") {
		t.Errorf("the unit does not start the binary that wrote it:\n%s", unit)
	}
}

func TestEnsureUnitsLeavesPackagedOnes(t *testing.T) {
	f := newFakeHost(t)
	f.put(t, "/usr/lib/systemd/system/"+ServerUnit, 0o644)
	f.put(t, "/lib/systemd/system/"+AgentUnit, 0o644)
	if err := f.EnsureUnits(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.path("/etc/systemd/system")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("units were written beside the package's: %v", err)
	}
}

func TestExecutableMustBeWithinReach(t *testing.T) {
	check := func(path string, mode fs.FileMode, want string) {
		t.Helper()
		f := newFakeHost(t)
		f.put(t, path, mode)
		f.Executable = path
		err := f.EnsureUnits(t.Context())
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) || !strings.Contains(e.Fix, "install -m 755 "+path) {
			t.Errorf("%s: got %v", path, err)
		}
	}
	check("/home/ann/meshd", 0o755, "services are kept out of /home")
	check("/tmp/go-build/meshd", 0o755, "services are kept out of /tmp")
	check("/opt/secret/meshd", 0o700, "may not enter or execute /opt/secret/meshd")
}

func TestQuote(t *testing.T) {
	check := func(in, want string) {
		t.Helper()
		if got := quote(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	check("/usr/bin/meshd", "/usr/bin/meshd")
	check("/opt/100%/meshd", "/opt/100%%/meshd")
	check("/opt/my tools/meshd", `"/opt/my tools/meshd"`)
	check(`/opt/a"b/meshd`, `"/opt/a\"b/meshd"`)
}

func TestStart(t *testing.T) {
	f := newFakeHost(t)
	if err := f.Start(t.Context(), AgentUnit); err != nil {
		t.Fatal(err)
	}
	f.took(t, "systemctl enable "+AgentUnit, "systemctl restart "+AgentUnit, "systemctl is-active "+AgentUnit)
}

func TestStartShowsWhatTheUnitSaid(t *testing.T) {
	f := newFakeHost(t)
	f.fail["systemctl restart "+ServerUnit] = "job failed"
	err := f.Start(t.Context(), ServerUnit)
	var e *Error
	if !errors.As(err, &e) || !strings.HasSuffix(err.Error(), "    first\n    second") || !strings.Contains(e.Fix, "journalctl -u "+ServerUnit) {
		t.Errorf("got %v", err)
	}
}

func TestCheckSystemd(t *testing.T) {
	f := newFakeHost(t)
	if err := f.CheckSystemd(); err == nil {
		t.Error("a host without systemd passed")
	}
	f.put(t, "/run/systemd/system/x", 0o644)
	if err := f.CheckSystemd(); err != nil {
		t.Error(err)
	}
}

func TestInstallResolver(t *testing.T) {
	f := newFakeHost(t)
	check := func(want bool, commands ...string) {
		t.Helper()
		got, err := f.InstallResolver(t.Context())
		if err != nil || got != want {
			t.Errorf("got %v, %v", got, err)
		}
		f.took(t, commands...)
	}
	const active = "systemctl is-active systemd-resolved.service"
	check(true, active, "systemctl restart systemd-resolved.service")
	check(true, active)
	f.fail[active] = "inactive"
	check(false, active)
}

func TestRemoveResolver(t *testing.T) {
	f := newFakeHost(t)
	if _, err := f.InstallResolver(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.commands = nil
	check := func(commands ...string) {
		t.Helper()
		if err := f.RemoveResolver(t.Context()); err != nil {
			t.Error(err)
		}
		f.took(t, commands...)
	}
	check("systemctl is-active systemd-resolved.service", "systemctl restart systemd-resolved.service")
	check()
}

func TestDefaultInterface(t *testing.T) {
	const header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	check := func(routes, want string) {
		t.Helper()
		if got := defaultInterface([]byte(header + routes)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	check("", "")
	check("eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n", "")
	check("eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n", "eth0")
	check("wlan0 00000000 010200C0 0003 0 0 600 00000000 0 0 0\neth1 00000000 010200C0 0003 0 0 100 00000000 0 0 0\n", "eth1")
	check("eth0 00000000 010200C0 0002 0 0 0 00000000 0 0 0\n", "")
	check("eth0 00000000\n", "")
}
