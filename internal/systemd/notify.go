// Package systemd tells the service manager how this process is doing.
package systemd

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Notifier sends a service's state to the service manager that started it.
// Outside systemd every call does nothing and succeeds.
type Notifier struct {
	socket   string
	watchdog time.Duration
}

// FromEnvironment makes a Notifier of NOTIFY_SOCKET, WATCHDOG_USEC and
// WATCHDOG_PID as getenv (usually os.Getenv) gives them; pid is this process's.
func FromEnvironment(getenv func(string) string, pid int) *Notifier {
	n := &Notifier{socket: getenv("NOTIFY_SOCKET")}
	if owner := getenv("WATCHDOG_PID"); owner != "" && owner != strconv.Itoa(pid) {
		return n
	}
	if usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
		n.watchdog = time.Duration(usec) * time.Microsecond
	}
	return n
}

// Enabled says whether a service manager listens.
func (n *Notifier) Enabled() bool { return n.socket != "" }

// Ready says that start-up or a reload is complete; status is shown by
// systemctl.
func (n *Notifier) Ready(status string) error { return n.send("READY=1", statusLine(status)) }

// Status replaces the line shown by systemctl.
func (n *Notifier) Status(status string) error { return n.send(statusLine(status)) }

// Reloading says that a reload began; Ready ends it.
func (n *Notifier) Reloading() error { return n.send("RELOADING=1") }

// Stopping says that the service is on its way down.
func (n *Notifier) Stopping() error { return n.send("STOPPING=1") }

// A newline would end the assignment and begin another.
func statusLine(status string) string {
	return "STATUS=" + strings.ReplaceAll(status, "\n", " ")
}

// The socket stays unconnected: a message then reaches whoever is bound to the
// name now, after the service manager has re-executed itself too.
func (n *Notifier) send(assignments ...string) error {
	if !n.Enabled() {
		return nil
	}
	message := strings.Join(assignments, "\n")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("notify systemd: open a socket: %w", err)
	}
	defer unix.Close(fd)
	// x/sys/unix turns a leading @ into the abstract namespace.
	if err := unix.Sendmsg(fd, []byte(message), nil, &unix.SockaddrUnix{Name: n.socket}, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("notify systemd: send %q to %s: %w", message, n.socket, err)
	}
	return nil
}
