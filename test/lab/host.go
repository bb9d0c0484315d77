package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Host is one machine of a lab: systemd as PID 1, files that outlive
// reboots, and an address on the lab's network.
type Host struct {
	Name    string
	Address netip.Addr

	lab *Lab

	mu   sync.Mutex
	boot *boot // nil while the host is off
}

// addHost lays out a new host's files; it is off.
func (l *Lab) addHost(ctx context.Context, name string, address netip.Addr) (*Host, error) {
	if !hostName.MatchString(name) {
		return nil, fmt.Errorf("a host's name matches %s", hostName)
	}
	h := &Host{Name: name, Address: address, lab: l}
	dir := h.dir()
	if err := l.holder.run(ctx, "mkdir", dir, dir+"/upper", dir+"/work", dir+"/root", h.cgroup()); err != nil {
		return nil, err
	}
	layers := "lowerdir=/tmp/base,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	if err := l.holder.run(ctx, "mount", "-t", "overlay", "-o", layers, "overlay", dir+"/root"); err != nil {
		return nil, err
	}
	link := "[Match]\nName=host0\n[Network]\nAddress=" + onNetwork(address) + "\nGateway=" + gateway.String() +
		"\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\n"
	return h, h.WriteFile("/etc/systemd/network/10-host0.network", link, 0o644)
}

func (h *Host) dir() string    { return "/tmp/" + h.Name }
func (h *Host) cgroup() string { return h.lab.holder.cgroup() + "/" + h.Name }

// bootFirst starts a new host and insists that nothing on it failed.
func (h *Host) bootFirst(ctx context.Context) error {
	if err := h.Start(ctx); err != nil {
		return err
	}
	if state, err := h.Run(ctx, "systemctl", "is-system-running", "--wait"); err != nil {
		failed, _ := h.Run(ctx, "systemctl", "list-units", "--failed", "--no-legend")
		return fmt.Errorf("host %s is %s after its first boot: %w\n%s", h.Name, strings.TrimSpace(state), err, failed)
	}
	return nil
}

// Start switches the host on and returns when it has booted. Files are as they
// were when it went off; only /run and /tmp are empty.
func (h *Host) Start(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.boot != nil {
		return fmt.Errorf("starting host %s: it is on already", h.Name)
	}
	b, err := h.startBoot(ctx)
	if err != nil {
		return fmt.Errorf("starting host %s: %w", h.Name, err)
	}
	h.boot = b
	return nil
}

// Stop shuts the host down in an orderly way.
func (h *Host) Stop(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.boot == nil {
		return fmt.Errorf("stopping host %s: it is off already", h.Name)
	}
	// What systemd as PID 1 takes for "power off".
	const powerOff = syscall.Signal(34 + 4)
	if err := syscall.Kill(h.boot.leader, powerOff); err != nil {
		return fmt.Errorf("stopping host %s: %w", h.Name, err)
	}
	select {
	case <-h.boot.done:
	case <-ctx.Done():
		return fmt.Errorf("stopping host %s: %w", h.Name, ctx.Err())
	}
	h.boot.wait()
	h.boot = nil
	return nil
}

// Kill cuts the host's power: its peers see no connection close, they just
// never hear of it again.
func (h *Host) Kill(ctx context.Context) error {
	if err := h.CutNetwork(ctx); err != nil {
		return err
	}
	return h.end()
}

// end kills the host if it is on.
func (h *Host) end() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.boot == nil {
		return nil
	}
	if err := syscall.Kill(h.boot.leader, syscall.SIGKILL); err != nil {
		return fmt.Errorf("killing host %s: %w", h.Name, err)
	}
	h.boot.wait()
	h.boot = nil
	return nil
}

// CutNetwork pulls the host's plug at the switch: packets vanish in both
// directions, while the host's own link stays up. A reboot mends it.
func (h *Host) CutNetwork(ctx context.Context) error {
	if err := h.lab.holder.run(ctx, "ip", "link", "set", "vb-"+h.Name, "nomaster"); err != nil {
		return fmt.Errorf("cutting the network of host %s: %w", h.Name, err)
	}
	return nil
}

// RestoreNetwork undoes CutNetwork.
func (h *Host) RestoreNetwork(ctx context.Context) error {
	if err := h.lab.holder.run(ctx, "ip", "link", "set", "vb-"+h.Name, "master", "br0"); err != nil {
		return fmt.Errorf("restoring the network of host %s: %w", h.Name, err)
	}
	return nil
}

// Command prepares a program to run on the host, as root and outside of any
// unit that a service could claim. When ctx ends, it and its children are killed.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.boot == nil {
		cmd := exec.CommandContext(ctx, args[0])
		cmd.Err = fmt.Errorf("host %s is off", h.Name)
		return cmd
	}
	line := enterCommand(h.boot.leader, args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Env = append(hostEnv[:len(hostEnv):len(hostEnv)], "TERM=dumb")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, UseCgroupFD: true, CgroupFD: int(h.boot.scope.Fd())}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Run runs a program on the host and gives its standard output; an error
// carries what it wrote to its standard error.
func (h *Host) Run(ctx context.Context, args ...string) (string, error) {
	out, err := output(h.Command(ctx, args...))
	if err != nil {
		return out, fmt.Errorf("%s: %s: %w", h.Name, strings.Join(args, " "), err)
	}
	return out, nil
}

// WriteFile writes a file of the host, on or off, with the directories that it
// needs.
func (h *Host) WriteFile(name, content string, mode os.FileMode) error {
	root, err := os.OpenRoot(h.lab.holder.path(h.dir() + "/root"))
	if err != nil {
		return err
	}
	defer root.Close()
	name = strings.TrimPrefix(name, "/")
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := root.WriteFile(name, []byte(content), mode); err != nil {
		return err
	}
	// Unlike a created file's mode, this is not subject to the umask.
	return root.Chmod(name, mode)
}

// CopyFile copies a file of this machine to the host.
func (h *Host) CopyFile(local, name string, mode os.FileMode) error {
	content, err := os.ReadFile(local)
	if err != nil {
		return err
	}
	return h.WriteFile(name, string(content), mode)
}

// Journal gives the last lines that the given units, or all, have logged.
func (h *Host) Journal(ctx context.Context, units ...string) (string, error) {
	args := []string{"journalctl", "--no-pager", "--output=short-precise", "--lines=400"}
	for _, unit := range units {
		args = append(args, "--unit="+unit)
	}
	return h.Run(ctx, args...)
}
