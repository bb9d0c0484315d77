package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// insideEnv tells the test program that it runs where its networks and file
// systems are nobody else's.
const insideEnv = "MESHD_FAULTS_INSIDE"

// TestMain moves a test program of root into namespaces of its own, in which
// each server has a host's network.
func TestMain(m *testing.M) {
	if err := moveInside(); err != nil {
		fmt.Fprintln(os.Stderr, "no network of its own for each server:", err)
	}
	code := m.Run()
	if dir := builds.dir; dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// moveInside returns where there is nothing more to do. Coming from outside it
// starts the program anew, within its namespaces.
func moveInside() error {
	if os.Getuid() != 0 {
		return nil
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return err
	}
	if os.Getenv(insideEnv) != "" {
		return exec.Command("ip", "link", "set", "lo", "up").Run()
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making namespaces: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts to itself: %w", err)
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), insideEnv+"=1"))
}

// needMachines skips a test that takes a network for each server. With
// MESHD_LAB=require, as in CI, it fails instead.
func needMachines(t *testing.T) {
	t.Helper()
	const reason = "it needs root, `sudo make test`, and ip: apt-get install iproute2"
	switch {
	case os.Getenv(insideEnv) != "":
	case os.Getenv("MESHD_LAB") == "require":
		t.Fatal(reason)
	default:
		t.Skip(reason)
	}
}

// A wire connects machines that have a network each: 10.77.0.1 and so on, this
// program being 10.77.0.254.
type wire struct {
	machines []*exec.Cmd // processes that hold the networks
}

func newWire(t *testing.T, machines int) *wire {
	t.Helper()
	w := &wire{}
	run(t, "ip link add br0 type bridge")
	run(t, "ip addr add 10.77.0.254/24 dev br0")
	run(t, "ip link set br0 up")
	t.Cleanup(func() {
		run(t, "ip link del br0")
	})
	for i := range machines {
		w.add(t, i+1)
	}
	return w
}

func (w *wire) add(t *testing.T, n int) {
	t.Helper()
	holder := exec.Command("sleep", "infinity")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := holder.Start(); err != nil {
		t.Fatalf("making the network of machine %d: %v", n, err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait() // its network goes with it
	})
	w.machines = append(w.machines, holder)
	run(t, fmt.Sprintf("ip link add v%d type veth peer name eth0 address %s netns %d", n, mac(n), holder.Process.Pid))
	run(t, fmt.Sprintf("ip link set v%d master br0 up", n))
	for _, command := range []string{"ip link set lo up", "ip link set eth0 up", fmt.Sprintf("ip addr add %s/24 dev eth0", ip(n))} {
		run(t, w.inside(n)+command)
	}
}

// inside begins a command that is to run on a machine.
func (w *wire) inside(n int) string {
	return fmt.Sprintf("nsenter --net=/proc/%d/ns/net ", w.machines[n-1].Process.Pid)
}

// cut loses what one machine sends to another; what the other sends arrives.
func (w *wire) cut(t *testing.T, from, to int) {
	run(t, w.inside(from)+fmt.Sprintf("ip neigh replace %s lladdr %s dev eth0 nud permanent", ip(to), mac(255)))
}

// heal ends what cut began.
func (w *wire) heal(t *testing.T, from, to int) {
	run(t, w.inside(from)+fmt.Sprintf("ip neigh replace %s lladdr %s dev eth0 nud reachable", ip(to), mac(to)))
}

func ip(n int) string  { return fmt.Sprintf("10.77.0.%d", n) }
func mac(n int) string { return fmt.Sprintf("02:00:0a:4d:00:%02x", n) }

func run(t *testing.T, command string) {
	t.Helper()
	words := strings.Fields(command)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", command, err, out)
	}
}

// builds are the binaries under test, made when the first test needs one.
var builds struct {
	once   [2]sync.Once
	dir    string
	errors [2]error
}

// plainBinary is meshd as it is shipped.
func plainBinary(t *testing.T) string {
	t.Helper()
	return binary(t, 0, "meshd")
}

func binary(t *testing.T, i int, name string, flags ...string) string {
	t.Helper()
	builds.once[i].Do(func() {
		if builds.dir == "" {
			if builds.dir, builds.errors[i] = os.MkdirTemp("", "meshd-faults-"); builds.errors[i] != nil {
				return
			}
		}
		args := append([]string{"build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(builds.dir, name)}, flags...)
		build := exec.Command("go", append(args, "github.com/meshd/meshd")...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			builds.errors[i] = errors.Join(err, errors.New(string(out)))
		}
	})
	if err := builds.errors[i]; err != nil {
		t.Fatalf("building meshd: %v", err)
	}
	return filepath.Join(builds.dir, name)
}
