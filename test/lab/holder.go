package lab

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed holder.sh
var holderScript string

// A holder is the process that owns a lab's namespaces. It watches this
// process through a pipe, so that even a panic or a SIGKILL here ends the lab.
type holder struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr bytes.Buffer
}

func startHolder(base, gateway string) (*holder, error) {
	h := &holder{cmd: exec.Command("unshare", "--mount", "--net", "--propagation=private",
		"sh", "-c", holderScript, "meshd-lab-holder", base, gateway)}
	// An interrupt from the terminal is for us; the holder cleans up after us.
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	h.cmd.Stderr = &h.stderr
	stdin, err := h.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	h.stdin = stdin
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the lab's holder: %w", err)
	}
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		return nil, fmt.Errorf("setting up the lab's namespaces: %w", h.close())
	}
	return h, nil
}

// close ends everything in the lab and waits until it is gone.
func (h *holder) close() error {
	h.stdin.Close()
	stuck := time.AfterFunc(time.Minute, func() { h.cmd.Process.Kill() })
	defer stuck.Stop()
	if err := h.cmd.Wait(); err != nil {
		return withStderr(err, h.stderr.String())
	}
	return nil
}

// path is where a path of the lab's mount namespace is seen from here.
func (h *holder) path(p string) string {
	return "/proc/" + strconv.Itoa(h.cmd.Process.Pid) + "/root" + p
}

// cgroup is the lab's cgroup, in the lab's mount namespace.
func (h *holder) cgroup() string {
	return "/sys/fs/cgroup/meshd-lab-" + strconv.Itoa(h.cmd.Process.Pid)
}

// command prepares a program that runs in the lab's mount and network
// namespaces, outside of its hosts.
func (h *holder) command(ctx context.Context, args ...string) *exec.Cmd {
	enter := []string{"--target", strconv.Itoa(h.cmd.Process.Pid), "--mount", "--net", "--"}
	return exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
}

func (h *holder) run(ctx context.Context, args ...string) error {
	_, err := output(h.command(ctx, args...))
	return err
}

// output runs cmd and gives its standard output; an error carries what the
// program said on its standard error.
func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), withStderr(err, stderr.String())
	}
	return stdout.String(), nil
}

func withStderr(err error, stderr string) error {
	if err == nil {
		err = errors.New("ended early")
	}
	if stderr = strings.TrimSpace(stderr); stderr == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, stderr)
}
