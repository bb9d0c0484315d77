package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// checkSpace refuses to begin what needs that many bytes when there are not as
// many and some to spare for whoever else writes there.
func checkSpace(dir string, need int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("asking for the free space of %s: %w", dir, err)
	}
	free := int64(fs.Bavail) * int64(fs.Bsize)
	if need += need / 8; free < need {
		return fmt.Errorf("%s has %d MB free, and %d MB are needed: make room there first", dir, free>>20, need>>20+1)
	}
	return nil
}

// copyTree copies regular files and directories, durably.
func copyTree(from, to string) error {
	return filepath.Walk(from, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, path[len(from):])
		if info.IsDir() {
			return os.Mkdir(target, 0o700)
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}
