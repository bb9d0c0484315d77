package lab

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// A boot is one run of a host, from power on to power off.
type boot struct {
	leader  int           // PID of the host's systemd, as seen from here
	scope   *os.File      // cgroup that commands run in
	done    chan struct{} // closed when the container has ended
	console bytes.Buffer  // complete once done is closed
}

// A virtual machine would restrict none of this to its root.
const syscalls = "bpf keyctl add_key request_key open_by_handle_at perf_event_open"

func (h *Host) startBoot(ctx context.Context) (*boot, error) {
	notify, err := h.listenNotify()
	if err != nil {
		return nil, err
	}
	defer notify.Close()
	cgroup, err := os.Open(h.lab.holder.path(h.cgroup()))
	if err != nil {
		return nil, err
	}
	defer cgroup.Close()

	b := &boot{done: make(chan struct{})}
	cmd := h.container()
	cmd.Stdout, cmd.Stderr = &b.console, &b.console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(b.done)
		cmd.Wait()
	}()
	if err := b.waitReady(ctx, notify); err != nil {
		cmd.Process.Kill() // takes the whole container along
		<-b.done
		return nil, withStderr(err, b.console.String())
	}
	return b, nil
}

func (h *Host) container() *exec.Cmd {
	return h.lab.holder.command(context.Background(), "env",
		"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "NOTIFY_SOCKET="+h.dir()+"/notify",
		"systemd-nspawn", "--quiet", "--directory="+h.dir()+"/root", "--machine="+h.Name, "--hostname="+h.Name,
		"--boot", "--notify-ready=yes", "--register=no", "--keep-unit", "--console=pipe", "--network-bridge=br0",
		"--resolv-conf=off", "--timezone=off", "--link-journal=no",
		"--capability=all", "--system-call-filter="+syscalls)
}

func (h *Host) listenNotify() (*net.UnixConn, error) {
	name := h.lab.holder.path(h.dir() + "/notify")
	if err := os.RemoveAll(name); err != nil {
		return nil, err
	}
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
}

// waitReady listens to what the container tells its service manager: first the
// PID of the host's systemd, in the end that this has finished booting.
func (b *boot) waitReady(ctx context.Context, notify *net.UnixConn) error {
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ctx.Done():
		case <-b.done:
		case <-ended:
		}
		notify.Close()
	}()
	message := make([]byte, 4096)
	for {
		n, err := notify.Read(message)
		if err != nil {
			return errors.Join(errors.New("the host did not boot"), ctx.Err())
		}
		for line := range strings.Lines(string(message[:n])) {
			line = strings.TrimSpace(line)
			if pid, ok := strings.CutPrefix(line, "X_NSPAWN_LEADER_PID="); ok {
				b.leader, _ = strconv.Atoi(pid)
			}
			if line == "READY=1" && b.leader != 0 {
				b.scope, err = openScope(b.leader)
				return err
			}
		}
	}
}

// openScope makes the cgroup that commands run in. It looks to the host like a
// login session: inside its tree, and no unit's.
func openScope(leader int) (*os.File, error) {
	scope := "/proc/" + strconv.Itoa(leader) + "/root/sys/fs/cgroup/lab.scope"
	if err := os.MkdirAll(scope, 0o755); err != nil {
		return nil, err
	}
	return os.Open(scope)
}

// wait returns when the container has ended.
func (b *boot) wait() {
	<-b.done
	b.scope.Close()
}
