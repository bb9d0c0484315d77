package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/meshd/meshd/packaging"
)

// Units of meshd.
const (
	ServerUnit = "meshd-server.service"
	AgentUnit  = "meshd-agent.service"
)

// Where packages and administrators have their units.
var packagedUnits = []string{"/usr/lib/systemd/system", "/lib/systemd/system"}

const ownUnits = "/etc/systemd/system"

// CheckSystemd reports why services cannot be run on this host.
func (h *Host) CheckSystemd() error {
	if _, err := os.Stat(h.path("/run/systemd/system")); err != nil {
		return &Error{"look for systemd", errors.New("this host is not run by systemd"),
			"meshd runs as systemd units; to try it without them: meshd dev"}
	}
	return nil
}

// EnsureUnits writes the units of meshd, unless a package brought them, and
// has systemd read them.
func (h *Host) EnsureUnits(ctx context.Context) error {
	for name, unit := range map[string][]byte{ServerUnit: packaging.ServerUnit, AgentUnit: packaging.AgentUnit} {
		if h.packaged(name) {
			continue
		}
		if err := h.checkExecutable(); err != nil {
			return err
		}
		unit = bytes.Replace(unit, []byte("ExecStart="+packaging.Executable), []byte("ExecStart="+quote(h.Executable)), 1)
		if _, err := h.write(filepath.Join(ownUnits, name), unit, 0o644); err != nil {
			return fileError("write the unit "+name, err)
		}
	}
	if _, err := h.Run(ctx, nil, "systemctl", "daemon-reload"); err != nil {
		return &Error{"have systemd read its units", err, "look at what systemd says: journalctl -b _PID=1 -n 20"}
	}
	return nil
}

func (h *Host) packaged(unit string) bool {
	for _, dir := range packagedUnits {
		if _, err := os.Stat(h.path(filepath.Join(dir, unit))); err == nil {
			return true
		}
	}
	return false
}

// The units see no home directories and have a /tmp of their own, and the user
// meshd must be able to reach the binary.
func (h *Host) checkExecutable() error {
	fail := func(why string) error {
		return &Error{"use " + h.Executable + " for the services", errors.New(why),
			fmt.Sprintf("put it in place and start again from there: install -m 755 %s /usr/local/bin/meshd", h.Executable)}
	}
	for _, hidden := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
		if strings.HasPrefix(h.Executable, hidden) {
			return fail("services are kept out of " + strings.TrimSuffix(hidden, "/"))
		}
	}
	for path := h.Executable; path != "/"; path = filepath.Dir(path) {
		info, err := os.Stat(h.path(path))
		if err != nil {
			return fail(err.Error())
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fail("the user " + User + " may not enter or execute " + path)
		}
	}
	return nil
}

// quote writes a path as the first word of an ExecStart line.
func quote(path string) string {
	path = strings.ReplaceAll(path, "%", "%%")
	if !strings.ContainsAny(path, " \t\"'\\") {
		return path
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`
}

// Start enables a unit and starts it anew; it is up when Start returns.
func (h *Host) Start(ctx context.Context, unit string) error {
	_, err := h.Run(ctx, nil, "systemctl", "enable", unit)
	if err == nil {
		_, err = h.Run(ctx, nil, "systemctl", "restart", unit)
	}
	// A unit whose conditions do not hold is passed over without an error.
	if err == nil {
		_, err = h.Run(ctx, nil, "systemctl", "is-active", unit)
	}
	if err == nil {
		return nil
	}
	if log := h.journal(ctx, unit); log != "" {
		err = fmt.Errorf("%w\nits last words:\n%s", err, log)
	}
	return &Error{"start " + unit, err, "look at its log: journalctl -u " + unit + " -n 50"}
}

// Stop stops a unit and keeps it from starting with the host.
func (h *Host) Stop(ctx context.Context, unit string) error {
	if _, err := h.Run(ctx, nil, "systemctl", "disable", "--now", unit); err != nil {
		return &Error{"stop " + unit, err, "look at its state: systemctl status " + unit}
	}
	return nil
}

func (h *Host) journal(ctx context.Context, unit string) string {
	out, err := h.Run(ctx, nil, "journalctl", "-u", unit, "-n", "8", "-o", "cat", "--no-pager")
	if err != nil {
		return ""
	}
	return "    " + strings.ReplaceAll(out, "\n", "\n    ")
}
