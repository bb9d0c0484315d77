// Package host sets a machine up to run meshd: user, directories, units and
// the way of names below .mesh. Everything in it may be repeated.
package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// User is what meshd's services run as; its group bears the same name.
const User = "meshd"

// Directories of meshd on a host.
const (
	ConfigDir = "/etc/meshd"
	StateDir  = "/var/lib/meshd"
)

// A Host is the machine to set up.
type Host struct {
	// Root stands before every path; empty for the machine itself.
	Root string
	// Executable is the absolute path of the meshd binary.
	Executable string
	// Run runs a command with that standard input and gives what it printed.
	Run func(ctx context.Context, stdin []byte, name string, args ...string) (string, error)
	// LookPath says where a command is, as exec.LookPath does.
	LookPath func(name string) (string, error)
	// LookupUser gives the ids of a user and of the group of the same name.
	LookupUser func(name string) (uid, gid int, err error)
	// Chown sets a file's owner, as os.Lchown does.
	Chown func(path string, uid, gid int) error
}

// New gives the machine that this process runs on.
func New() (*Host, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return nil, fmt.Errorf("find the meshd binary: %w", err)
	}
	return &Host{Executable: self, Run: run, LookPath: exec.LookPath, LookupUser: lookupUser, Chown: os.Lchown}, nil
}

// An Error is a step of the set-up that failed.
type Error struct {
	Doing string // such as "create the user meshd"
	Err   error
	Fix   string // what to do about it
}

func (e *Error) Error() string { return e.Doing + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func (h *Host) path(path string) string { return filepath.Join(h.Root, path) }

func run(ctx context.Context, stdin []byte, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	// A pager or colours have no place in what we read.
	cmd.Env = append(os.Environ(), "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil && text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(append([]string{name}, args...), " "), err)
	}
	return text, err
}

func lookupUser(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, 0, err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(g.Gid)
	return uid, gid, errors.Join(err1, err2)
}
