package dev

import (
	"net"
	"os"
	"path/filepath"
)

// temporary is how folders of meshes that keep nothing are named.
const temporary = "meshd-dev-"

// TempDir makes the folder of a mesh that keeps nothing. Folders of such meshes
// that were killed are removed: there are keys in them.
func TempDir() (string, error) {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), temporary+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		if isDead(dir) {
			os.RemoveAll(dir) // what is not ours stays
		}
	}
	return os.MkdirTemp("", temporary)
}

// isDead reports whether a folder has the socket of a server that is gone.
func isDead(dir string) bool {
	socket := filepath.Join(dir, "server.sock")
	if _, err := os.Lstat(socket); err != nil {
		return false
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		return true
	}
	c.Close()
	return false
}
