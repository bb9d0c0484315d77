package host

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A fakeHost is a machine in a directory that records what was asked of it.
type fakeHost struct {
	*Host
	commands []string
	fail     map[string]string // command to what it prints
	owners   map[string][2]int
	users    map[string]int
	absent   map[string]bool // commands that are not installed
}

func newFakeHost(t *testing.T) *fakeHost {
	f := &fakeHost{fail: map[string]string{}, owners: map[string][2]int{}, users: map[string]int{User: 999}, absent: map[string]bool{}}
	root := t.TempDir()
	f.Host = &Host{Root: root, Executable: "/opt/meshd/bin/meshd"}
	f.Run = func(_ context.Context, _ []byte, name string, args ...string) (string, error) {
		command := strings.Join(append([]string{name}, args...), " ")
		f.commands = append(f.commands, command)
		if out, ok := f.fail[command]; ok {
			return out, errors.New(command + ": " + out)
		}
		if strings.HasPrefix(command, "systemd-sysusers") || strings.HasPrefix(command, "useradd") {
			f.users[User] = 999
		}
		if name == "journalctl" {
			return "first\nsecond", nil
		}
		return "", nil
	}
	f.LookPath = func(name string) (string, error) {
		if f.absent[name] {
			return "", fs.ErrNotExist
		}
		return "/usr/bin/" + name, nil
	}
	f.LookupUser = func(name string) (int, int, error) {
		id, ok := f.users[name]
		if !ok {
			return 0, 0, errors.New("unknown user " + name)
		}
		return id, id, nil
	}
	f.Chown = func(path string, uid, gid int) error {
		f.owners[strings.TrimPrefix(path, root)] = [2]int{uid, gid}
		return nil
	}
	f.put(t, f.Executable, 0o755)
	return f
}

func (f *fakeHost) put(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	// A path that others may enter, whatever the mode of the temporary root.
	if err := os.MkdirAll(filepath.Dir(f.path(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.path(path), nil, mode); err != nil {
		t.Fatal(err)
	}
}

func (f *fakeHost) took(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, f.commands); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	f.commands = nil
}

func TestEnsureUser(t *testing.T) {
	f := newFakeHost(t)
	check := func(want ...string) {
		t.Helper()
		if err := f.EnsureUser(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.took(t, want...)
	}
	check()
	delete(f.users, User)
	check("systemd-sysusers -")
	delete(f.users, User)
	f.absent["systemd-sysusers"] = true
	check("useradd --system --user-group --home-dir /var/lib/meshd --no-create-home --shell /usr/sbin/nologin meshd")
}

func TestEnsureUserSaysHowToDoItByHand(t *testing.T) {
	f := newFakeHost(t)
	delete(f.users, User)
	f.fail["systemd-sysusers -"] = "read-only file system"
	err := f.EnsureUser(t.Context())
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Fix, "useradd --system") || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("got %v", err)
	}
}

func TestEnsureDirectories(t *testing.T) {
	f := newFakeHost(t)
	for range 2 {
		if err := f.EnsureDirectories(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.EnsureState("agent"); err != nil {
		t.Fatal(err)
	}
	check := func(dir string, mode fs.FileMode, uid, gid int) {
		t.Helper()
		info, err := os.Stat(f.path(dir))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode || f.owners[dir] != [2]int{uid, gid} {
			t.Errorf("%s: mode %o, owner %v", dir, info.Mode().Perm(), f.owners[dir])
		}
	}
	check("/etc/meshd", 0o750, 0, 999)
	check("/etc/meshd/services.d", 0o750, 0, 999)
	check("/var/lib/meshd", 0o755, 0, 0)
	check("/var/lib/meshd/agent", 0o700, 999, 999)
	check("/run/meshd", 0o755, 999, 999)
}

func TestOwnReachesEveryFile(t *testing.T) {
	f := newFakeHost(t)
	dir, err := f.EnsureState("server")
	if err != nil {
		t.Fatal(err)
	}
	f.put(t, "/var/lib/meshd/server/raft/log.db", 0o600)
	if err := f.Own(dir); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/var/lib/meshd/server", "/var/lib/meshd/server/raft", "/var/lib/meshd/server/raft/log.db"} {
		if f.owners[path] != [2]int{999, 999} {
			t.Errorf("%s belongs to %v", path, f.owners[path])
		}
	}
}

func TestWriteConfig(t *testing.T) {
	f := newFakeHost(t)
	if err := f.WriteConfig("server.yaml", []byte("name: vm1\n")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(f.path("/etc/meshd/server.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o640 || f.owners["/etc/meshd/server.yaml"] != [2]int{0, 999} {
		t.Errorf("mode %o, owner %v", info.Mode().Perm(), f.owners["/etc/meshd/server.yaml"])
	}
}
