package caller

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

func TestUnitsOf(t *testing.T) {
	f := func(path string, want ...string) {
		t.Helper()
		if got := unitsOf(path); !slices.Equal(got, want) {
			t.Errorf("unitsOf(%q) = %q, want %q", path, got, want)
		}
	}
	f("")
	f("/")
	f("/init.scope", "init.scope")
	f("/system.slice", "system.slice")
	f("/system.slice/web.service", "web.service", "system.slice")
	f("/system.slice/web.service/worker", "web.service", "system.slice")
	f("/a.slice/a-b.slice/app@1.service", "app@1.service", "a-b.slice", "a.slice")
	f(`/system.slice/app@a\x2db.service`, `app@a\x2db.service`, "system.slice")
	f("/system.slice/_cpu.service", "cpu.service", "system.slice")
	f("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", "user-1000.slice", "user.slice")
	// Names below a unit are of its own choosing.
	f("/user.slice/user-1000.slice/user@1000.service/x.slice/web.service", "user@1000.service", "user-1000.slice", "user.slice")
	f("/machine.slice/libpod-0123.scope/container/system.slice/web.service", "libpod-0123.scope", "machine.slice")
}

func TestServiceUnit(t *testing.T) {
	f := func(want string, units ...string) {
		t.Helper()
		if got := serviceUnit(units); got != want {
			t.Errorf("serviceUnit(%q) = %q, want %q", units, got, want)
		}
	}
	f("")
	f("", "system.slice")
	f("", "session-3.scope", "user.slice")
	f("", "user@1000.service", "user.slice")
	f("web.service", "web.service", "system.slice")
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

func mkdir(t *testing.T, path string) uint64 {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return inode(t, path)
}

func TestUnits(t *testing.T) {
	root := t.TempDir()
	web := mkdir(t, filepath.Join(root, "system.slice/web.service"))
	u := newUnits(root)
	if got := u.of(web); got[0] != "web.service" {
		t.Errorf("got %q", got)
	}
	// One that was started after the tree was walked.
	worker := mkdir(t, filepath.Join(root, "system.slice/api.service/worker"))
	if got := u.of(worker); got[0] != "api.service" {
		t.Errorf("got %q", got)
	}
	if got := u.of(inode(t, root)); len(got) != 0 {
		t.Errorf("the root is of unit %q", got)
	}
}

func TestUnitsForeign(t *testing.T) {
	u := newUnits(t.TempDir())
	for id := range uint64(maxForeign + 10) {
		if got := u.of(1<<40 + id); got != nil {
			t.Fatalf("got %q", got)
		}
	}
	if n := len(*u.known.Load()); n > maxForeign+1 {
		t.Errorf("%d control groups are remembered", n)
	}
}
