package cli

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A fakeDaemon notes what is done to it.
func newFakeDaemon(done *[]string) *daemon {
	note := func(what string) { *done = append(*done, what) }
	ready := make(chan struct{})
	return &daemon{
		name: "server", logger: slog.New(slog.DiscardHandler),
		start:  func(context.Context) error { note("start"); close(ready); return nil },
		stop:   func() { note("stop") },
		ready:  ready,
		reload: func() error { note("reload"); return nil },
		alive:  func(context.Context) error { return nil },
	}
}

// manager is the service manager's end of the notifications.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T) *manager {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "60000000")
	t.Setenv("WATCHDOG_PID", "")
	return &manager{t, conn}
}

// await reads messages until one has that line.
func (m *manager) await(line string) {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 4096)
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			m.t.Fatalf("waiting for %s: %v", line, err)
		}
		if strings.Contains("\n"+string(buf[:n])+"\n", "\n"+line+"\n") {
			return
		}
	}
}

func TestDaemonLife(t *testing.T) {
	m := newManager(t)
	var done []string
	d := newFakeDaemon(&done)
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- d.run(ctx) }()
	m.await("READY=1")
	m.await("STATUS=serving")
	syscall.Kill(os.Getpid(), syscall.SIGHUP)
	m.await("RELOADING=1")
	m.await("READY=1")
	stop()
	m.await("STOPPING=1")
	if err := <-result; err != nil {
		t.Error(err)
	}
	if got := strings.Join(done, " "); got != "start reload stop" {
		t.Errorf("got %s", got)
	}
}

func TestDaemonGoesOnWhenAReloadFails(t *testing.T) {
	m := newManager(t)
	var done []string
	d := newFakeDaemon(&done)
	d.reload = func() error { return errors.New("line 3 is wrong") }
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- d.run(ctx) }()
	m.await("STATUS=serving")
	syscall.Kill(os.Getpid(), syscall.SIGHUP)
	m.await("STATUS=serving with the configuration of before: the log says why")
	stop()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestDaemonThatFailsIsStopped(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "")
	var done []string
	d := newFakeDaemon(&done)
	failed := make(chan struct{})
	close(failed)
	d.failed = func() (<-chan struct{}, func() error) {
		return failed, func() error { return errors.New("the disk is full") }
	}
	err := d.run(t.Context())
	if err == nil || err.Error() != "the server cannot go on: the disk is full" {
		t.Errorf("got %v", err)
	}
	if got := strings.Join(done, " "); got != "start stop" {
		t.Errorf("got %s", got)
	}
}

func TestDaemonThatCannotStart(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "")
	var done []string
	d := newFakeDaemon(&done)
	d.start = func(context.Context) error { return errors.New("port 7300 is taken") }
	var f *failure
	if err := d.run(t.Context()); !errors.As(err, &f) || !strings.Contains(f.next, "systemctl restart meshd-server") {
		t.Errorf("got %v", err)
	}
	if len(done) != 0 {
		t.Errorf("did %v", done)
	}
}

func TestDaemonSpeaksToTheJournalInItsForm(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "8:1")
	var done []string
	var log, stderr bytes.Buffer
	d := newFakeDaemon(&done)
	d.logger = slog.New(slog.NewTextHandler(&log, nil))
	d.start = func(context.Context) error { return errors.New("port 7300 is taken") }
	if exit := report(&stderr, d.run(t.Context())); exit != exitFailure || stderr.Len() != 0 {
		t.Errorf("exit %d, and beside the log: %s", exit, stderr.String())
	}
	if !strings.Contains(log.String(), `msg="the server cannot start" error="port 7300 is taken"`) {
		t.Errorf("logged %s", log.String())
	}
}

// A file that is asked for must be there; the default one need not.
func TestConfigurationThatIsNotThere(t *testing.T) {
	m := newFakeMesh(t)
	for _, name := range []string{"server", "agent"} {
		missing := filepath.Join(t.TempDir(), name+".yaml")
		_, stderr, exit := m.command(t, name, "--config", missing)
		if exit != exitFailure || !strings.Contains(stderr, "cannot read "+missing) {
			t.Errorf("meshd %s: exit %d: %s", name, exit, stderr)
		}
	}
}
