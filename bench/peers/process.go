package peers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Process is one server. It ends with the program that started it.
type Process struct {
	args []string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
}

func newProcess(log string, args ...string) *Process { return &Process{args: args, log: log} }

// Start starts the process, for the first time or again.
func (p *Process) Start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.args[0], err)
	}
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // killed, as a rule
		close(done)
	}(p.cmd, p.done)
	return nil
}

// Kill kills the process, if it runs, and waits for its end.
func (p *Process) Kill() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Usage is what a process has used.
type Usage struct {
	CPU time.Duration
	RSS int64 // bytes, now
}

// Usage of the process; zero when it does not run.
func (p *Process) Usage() (u Usage) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return u
	}
	// The name in parentheses may have spaces; utime is the 12th field after it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	ticks := func(i int) time.Duration {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		return time.Duration(n) * 10 * time.Millisecond // USER_HZ is 100 on Linux
	}
	u.CPU = ticks(11) + ticks(12)
	pages, _ := strconv.ParseInt(fields[21], 10, 64)
	u.RSS = pages * int64(os.Getpagesize())
	return u
}
