package systemd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const testPID = 4711

func listen(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func receive(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestMessages(t *testing.T) {
	for _, socket := range []string{
		filepath.Join(t.TempDir(), "notify"),
		"@meshd-test-" + strconv.FormatInt(time.Now().UnixNano(), 36),
	} {
		conn := listen(t, socket)
		n := FromEnvironment(environment("NOTIFY_SOCKET", socket), testPID)
		f := func(err error, want string) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			if got := receive(t, conn); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		f(n.Ready("serving"), "READY=1\nSTATUS=serving")
		f(n.Status("leader\nREADY=1"), "STATUS=leader READY=1")
		f(n.Reloading(), "RELOADING=1")
		f(n.Stopping(), "STOPPING=1")
	}
}

func TestOutsideSystemdNothingHappens(t *testing.T) {
	n := FromEnvironment(environment("WATCHDOG_USEC", "1000"), testPID)
	if err := n.Ready("serving"); err != nil || n.Enabled() {
		t.Errorf("enabled %v, error %v", n.Enabled(), err)
	}
	n.RunWatchdog(t.Context(), slog.New(slog.DiscardHandler), nil)
}

func TestErrorNamesTheSocket(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	err := FromEnvironment(environment("NOTIFY_SOCKET", gone), testPID).Ready("serving")
	if err == nil || !strings.Contains(err.Error(), gone) {
		t.Errorf("got %v, want an error that names %s", err, gone)
	}
}

func TestWatchdogInterval(t *testing.T) {
	f := func(usec, pid string, want time.Duration) {
		t.Helper()
		n := FromEnvironment(environment("NOTIFY_SOCKET", "/x", "WATCHDOG_USEC", usec, "WATCHDOG_PID", pid), testPID)
		if n.watchdog != want {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: got %v, want %v", usec, pid, n.watchdog, want)
		}
	}
	f("30000000", "", 30*time.Second)
	f("30000000", strconv.Itoa(testPID), 30*time.Second)
	f("30000000", "1", 0)
	f("", "", 0)
	f("-5", "", 0)
	f("soon", "", 0)
}

func TestWatchdogIsFedWhileAlive(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn := listen(t, socket)
	n := FromEnvironment(environment("NOTIFY_SOCKET", socket, "WATCHDOG_USEC", "3000"), testPID)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.RunWatchdog(ctx, slog.New(slog.DiscardHandler), func(context.Context) error { return nil })
	}()
	for range 3 {
		if got := receive(t, conn); got != "WATCHDOG=1" {
			t.Errorf("got %q", got)
		}
	}
	cancel()
	<-done
}

func TestWatchdogStarvesWhenStuck(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn := listen(t, socket)
	n := FromEnvironment(environment("NOTIFY_SOCKET", socket, "WATCHDOG_USEC", "3000"), testPID)
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	n.RunWatchdog(ctx, slog.New(slog.DiscardHandler), func(context.Context) error {
		if calls++; calls == 3 {
			cancel()
		}
		return errors.New("stuck")
	})
	conn.SetReadDeadline(time.Now())
	if n, err := conn.Read(make([]byte, 64)); err == nil {
		t.Errorf("%d bytes were sent although the service is stuck", n)
	}
}
