package host

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/meshd/meshd/packaging"
)

// EnsureDirectories creates meshd's directories, or corrects their owners and
// modes. The package's tmpfiles.d file says what they are.
func (h *Host) EnsureDirectories() error {
	lines := bufio.NewScanner(bytes.NewReader(packaging.Tmpfiles))
	for lines.Scan() {
		field := strings.Fields(lines.Text())
		if len(field) < 5 || field[0] != "d" {
			continue
		}
		mode, err := strconv.ParseUint(field[2], 8, 32)
		if err == nil {
			err = h.directory(field[1], fs.FileMode(mode), field[3], field[4])
		}
		if err != nil {
			return fileError("create "+field[1], err)
		}
	}
	return nil
}

// EnsureState creates the state directory of the server or of the agent, which
// nobody but meshd may enter, and gives its path.
func (h *Host) EnsureState(role string) (string, error) {
	dir := filepath.Join(StateDir, role)
	if err := h.directory(dir, 0o700, User, User); err != nil {
		return "", fileError("create "+dir, err)
	}
	return h.path(dir), nil
}

// Own gives a directory and all that is in it to meshd: what root wrote there
// must be open to the services.
func (h *Host) Own(dir string) error {
	uid, gid, err := h.LookupUser(User)
	if err == nil {
		err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return h.Chown(path, uid, gid)
		})
	}
	if err != nil {
		return fileError("give "+dir+" to the user "+User, err)
	}
	return nil
}

// WriteConfig writes a file below /etc/meshd for meshd to read and root to
// change.
func (h *Host) WriteConfig(name string, data []byte) error {
	path := filepath.Join(ConfigDir, name)
	_, gid, err := h.LookupUser(User)
	if err == nil {
		_, err = h.write(path, data, 0o640)
	}
	if err == nil {
		err = h.Chown(h.path(path), 0, gid)
	}
	if err != nil {
		return fileError("write "+path, err)
	}
	return nil
}

func fileError(doing string, err error) error {
	return &Error{doing, err, "make sure that the file system is writable and not full, then run the same command again"}
}

func (h *Host) directory(dir string, mode fs.FileMode, owner, group string) error {
	path := h.path(dir)
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	// MkdirAll leaves what exists alone, and the umask cuts what does not.
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	uid, _, err := h.id(owner)
	if err != nil {
		return err
	}
	_, gid, err := h.id(group)
	if err != nil {
		return err
	}
	return h.Chown(path, uid, gid)
}

func (h *Host) id(name string) (uid, gid int, err error) {
	if name == "root" {
		return 0, 0, nil
	}
	return h.LookupUser(name)
}

// write replaces a file as a whole, and leaves one alone that has the same
// content: nobody then needs to be told of a change.
func (h *Host) write(path string, data []byte, mode fs.FileMode) (changed bool, err error) {
	path = h.path(path)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return false, os.Chmod(path, mode)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, data, mode); err != nil {
		return false, err
	}
	if err := os.Chmod(temporary, mode); err != nil {
		return false, err
	}
	if err := os.Rename(temporary, path); err != nil {
		return false, fmt.Errorf("put it in place: %w", err)
	}
	return true, nil
}
