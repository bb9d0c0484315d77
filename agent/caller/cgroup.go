package caller

import (
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxForeign bounds how many control groups are remembered that could not be
// found: those of other containers, and of units that are gone.
const maxForeign = 1024

// units knows which systemd unit a control group belongs to. A control group's
// id is the inode of its directory and is never used again, so what was learnt
// stays true; the tree is walked only for an id not seen yet.
type units struct {
	root  string
	known atomic.Pointer[map[uint64][]string]
	mu    sync.Mutex // one walk at a time
}

// cgroupRoot finds where control groups version 2 are: at the top, or beside
// those of version 1.
func cgroupRoot() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", errors.New("no control groups version 2 at /sys/fs/cgroup: systemd units cannot be told apart on this host")
}

func newUnits(root string) *units {
	u := &units{root: root}
	u.known.Store(&map[uint64][]string{})
	return u
}

// of returns the units that a control group belongs to as unitsOf does.
func (u *units) of(id uint64) []string {
	if names, ok := (*u.known.Load())[id]; ok {
		return names
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if names, ok := (*u.known.Load())[id]; ok {
		return names
	}
	next := u.walk()
	if _, ok := next[id]; !ok {
		u.rememberForeign(next, id)
	}
	u.known.Store(&next)
	return next[id]
}

// rememberForeign notes that id is nowhere in the tree. It will not appear
// later: a control group is made before the processes in it.
func (u *units) rememberForeign(next map[uint64][]string, id uint64) {
	foreign := map[uint64][]string{id: nil}
	for id, names := range *u.known.Load() {
		if _, found := next[id]; !found && names == nil {
			foreign[id] = nil
		}
	}
	if len(foreign) > maxForeign {
		foreign = map[uint64][]string{id: nil}
	}
	maps.Copy(next, foreign)
}

// walk reads the whole tree. A directory that goes away meanwhile is no error.
func (u *units) walk() map[uint64][]string {
	found := make(map[uint64][]string)
	filepath.WalkDir(u.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			found[st.Ino] = unitsOf(strings.TrimPrefix(path, u.root))
		}
		return nil
	})
	return found
}

// unitsOf gives the service or scope that a control group's path lies in, then
// the slices around it, innermost first. The service is the topmost one: what is
// below a unit was delegated to it, and names there are of its own choosing.
// A user's service manager or a container could otherwise call a group of its
// own after any service of the host.
func unitsOf(path string) (names []string) {
	for name := range strings.SplitSeq(path, "/") {
		// systemd puts a _ before names that the kernel could take for its own.
		name = strings.TrimPrefix(name, "_")
		switch filepath.Ext(name) {
		case ".slice":
			names = slices.Insert(names, 0, name)
		case ".service", ".scope":
			return slices.Insert(names, 0, name)
		}
	}
	return names
}
