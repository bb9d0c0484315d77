package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestHosts(t *testing.T) {
	l := New(t, Options{Hosts: []string{"h1", "h2", "h3"}})
	h1, h2 := l.Host("h1"), l.Host("h2")
	run := func(h *Host, args ...string) string {
		t.Helper()
		out, err := h.Run(t.Context(), args...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	ping := func(want bool) {
		t.Helper()
		_, err := h1.Run(t.Context(), "ping", "-c1", "-W1", h2.Address.String())
		if got := err == nil; got != want {
			t.Fatalf("h1 reaches h2: %v, want %v (%v)", got, want, err)
		}
	}

	for _, h := range l.Hosts() {
		if got := run(h, "hostname"); got != h.Name {
			t.Errorf("hostname on %s is %q", h.Name, got)
		}
	}
	if out := run(h1, "cat", "/proc/self/cgroup"); !strings.HasSuffix(out, "0::/lab.scope") {
		t.Errorf("a command runs in %q, want lab.scope inside the host's tree", out)
	}
	if out := run(h1, "systemd-run", "--quiet", "--pipe", "--wait", "--unit=app", "cat", "/proc/self/cgroup"); !strings.HasSuffix(out, "/app.service") {
		t.Errorf("a unit runs in %q", out)
	}

	ping(true)
	must(t, h2.CutNetwork(t.Context()))
	ping(false)
	must(t, h2.RestoreNetwork(t.Context()))
	ping(true)

	must(t, h2.WriteFile("/etc/new/file", "one\n", 0o640))
	if got := run(h2, "stat", "--format=%a %s", "/etc/new/file"); got != "640 4" {
		t.Errorf("written file has mode and size %s", got)
	}
	must(t, h2.Stop(t.Context()))
	if _, err := h2.Run(t.Context(), "true"); err == nil {
		t.Error("a command ran on a host that is off")
	}
	must(t, h2.WriteFile("/etc/new/file", "while off\n", 0o640))
	must(t, h2.Start(t.Context()))
	if got := run(h2, "cat", "/etc/new/file"); got != "while off" {
		t.Errorf("after a reboot the file holds %q", got)
	}
	must(t, h2.Kill(t.Context()))
	ping(false)
	must(t, h2.Start(t.Context()))
	ping(true)
}

func TestCancelledCommandDies(t *testing.T) {
	l := New(t, Options{Hosts: []string{"h1"}})
	h := l.Host("h1")
	ctx, cancel := context.WithCancel(t.Context())
	cmd := h.Command(ctx, "sh", "-c", "echo started; sleep 1000")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	cmd.Wait()
	if left, err := h.Run(t.Context(), "pgrep", "--full", "sleep 1000"); err == nil {
		t.Errorf("still running on the host: %s", left)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	needLab(t)
	for range 3 {
		l, err := Start(t.Context(), Options{Hosts: []string{"a", "b"}})
		must(t, err)
		holder := l.holder.cmd.Process.Pid
		leader := l.Host("a").boot.leader
		must(t, l.Close())
		checkGone(t, holder, leader)
	}
}

// A test binary that is killed cannot clean up; the holder must.
func TestKilledOwnerLeavesNothing(t *testing.T) {
	needLab(t)
	holder, leader := startAndDie(t, "owner")
	within(t, 20*time.Second, func() bool { return !alive(holder) })
	checkGone(t, holder, leader)
}

// When the holder is killed too, the next lab cleans up.
func TestNextLabBuriesStaleOne(t *testing.T) {
	needLab(t)
	holder, leader := startAndDie(t, "holder")
	if !alive(leader) {
		t.Fatal("the host died with its holder, so this test shows nothing")
	}
	l, err := Start(t.Context(), Options{})
	must(t, err)
	must(t, l.Close())
	checkGone(t, holder, leader)
}

// startAndDie has a child process start a lab and be killed, alone or together
// with its holder.
func startAndDie(t *testing.T, victim string) (holder, leader int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LAB_TEST_KILL="+victim)
	out, err := cmd.Output()
	if _, scan := fmt.Sscanf(string(out), "%d %d", &holder, &leader); scan != nil {
		t.Fatalf("the process that starts a lab and dies said %q: %v", out, err)
	}
	return holder, leader
}

func TestMain(m *testing.M) {
	if victim := os.Getenv("LAB_TEST_KILL"); victim != "" {
		die(victim)
	}
	os.Exit(m.Run())
}

func die(victim string) {
	l, err := Start(context.Background(), Options{Hosts: []string{"a"}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(l.holder.cmd.Process.Pid, l.Host("a").boot.leader)
	if victim == "holder" {
		l.holder.cmd.Process.Kill()
	}
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

func checkGone(t *testing.T, holder, leader int) {
	t.Helper()
	if alive(leader) {
		t.Errorf("the host's systemd (%d) still runs", leader)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if strings.Contains(fields[1], "meshd-lab") {
			t.Errorf("still mounted: %s", line)
		}
		left, _ := filepath.Glob(fmt.Sprintf("%s/meshd-lab-%d", fields[1], holder))
		if fields[2] == "cgroup2" && len(left) > 0 {
			t.Errorf("still there: %s", left)
		}
	}
}

// alive reports whether the process runs; one that waits to be reaped does not.
func alive(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && !strings.Contains(string(status), "State:\tZ")
}

func within(t *testing.T, limit time.Duration, done func() bool) {
	t.Helper()
	deadline := time.After(limit)
	for tick := time.Tick(20 * time.Millisecond); !done(); {
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("not within %s", limit)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
