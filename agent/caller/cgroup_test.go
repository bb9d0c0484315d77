package caller

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestUnitOf(t *testing.T) {
	f := func(path, want string) {
		t.Helper()
		if got := unitOf(path); got != want {
			t.Errorf("unitOf(%q) = %q, want %q", path, got, want)
		}
	}
	f("", "")
	f("/", "")
	f("/init.scope", "init.scope")
	f("/system.slice/web.service", "web.service")
	f("/system.slice/web.service/worker", "web.service")
	f("/system.slice/system-app.slice/app@1.service", "app@1.service")
	f(`/system.slice/app@a\x2db.service`, `app@a\x2db.service`)
	f("/system.slice/_cpu.service", "cpu.service")
	f("/user.slice/user-1000.slice/session-3.scope", "session-3.scope")
	f("/system.slice", "")
	// Names below a unit are of its own choosing.
	f("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", "user@1000.service")
	f("/machine.slice/libpod-0123.scope/container/system.slice/web.service", "libpod-0123.scope")
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
	if got := u.unit(web); got != "web.service" {
		t.Errorf("got %q", got)
	}
	// One that was started after the tree was walked.
	worker := mkdir(t, filepath.Join(root, "system.slice/api.service/worker"))
	if got := u.unit(worker); got != "api.service" {
		t.Errorf("got %q", got)
	}
	if got := u.unit(inode(t, root)); got != "" {
		t.Errorf("the root is of unit %q", got)
	}
}

func TestUnitsForeign(t *testing.T) {
	u := newUnits(t.TempDir())
	for id := range uint64(maxForeign + 10) {
		if got := u.unit(1<<40 + id); got != "" {
			t.Fatalf("got %q", got)
		}
	}
	if n := len(*u.known.Load()); n > maxForeign+1 {
		t.Errorf("%d control groups are remembered", n)
	}
}
