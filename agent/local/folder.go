package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
)

// A folder is one of files that declare services.
type folder struct {
	dir     string
	files   map[string]*file // by path
	problem string           // with the folder itself
}

// A file keeps what it declared when it could last be read, so that a slip of
// the editor takes no service out of the mesh.
type file struct {
	stamp        stamp
	declarations []*apiv1.Declaration
	problem      string
}

// A stamp changes whenever a file does.
type stamp struct {
	inode, size, changed int64
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{size: info.Size(), changed: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		// The time of change tells even a file with its old time put back.
		s.inode, s.changed = int64(st.Ino), st.Ctim.Nano()
	}
	return s
}

func newFolder(dir string) *folder { return &folder{dir: dir, files: map[string]*file{}} }

// scan reads what changed since the last time, and reports whether anything did.
func (f *folder) scan() (changed bool) {
	paths, err := f.list()
	problem := ""
	if err != nil {
		problem = fmt.Sprintf("%s cannot be read, so that services declared there stay as they were: %v", f.dir, err)
	}
	changed = problem != f.problem
	f.problem = problem
	if err != nil {
		return changed
	}
	for path := range f.files {
		if !paths[path] {
			delete(f.files, path)
			changed = true
		}
	}
	for path := range paths {
		changed = f.read(path) || changed
	}
	return changed
}

// list gives the files of the folder; one that does not exist has none.
func (f *folder) list() (map[string]bool, error) {
	paths := map[string]bool{}
	if f.dir == "" {
		return paths, nil
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && filepath.Ext(e.Name()) == ".yaml" {
			paths[filepath.Join(f.dir, e.Name())] = true
		}
	}
	return paths, nil
}

// read reads one file if it changed.
func (f *folder) read(path string) (changed bool) {
	known := f.files[path]
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false // gone since it was listed
	}
	if err == nil && known != nil && known.stamp == stampOf(info) {
		return false
	}
	next := &file{}
	if err == nil {
		next.stamp = stampOf(info)
		next.declarations, err = decodeFile(path)
	}
	if err == nil {
		f.files[path] = next
		return true
	}
	next.problem = err.Error()
	if known != nil {
		next.declarations = known.declarations
		next.problem += "\nwhat the file declared before stays in force until it is mended"
	}
	f.files[path] = next
	return known == nil || known.problem != next.problem
}

func decodeFile(path string) ([]*apiv1.Declaration, error) {
	data, err := config.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return config.DecodeDeclaration(path, data)
}
