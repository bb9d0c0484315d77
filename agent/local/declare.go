package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/atomicfile"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/mesh"
)

// ErrNotDeclared says that no service of that id was declared here.
var ErrNotDeclared = errors.New("no such service on this host")

// Add declares a service, or changes one that Add declared. undo puts back what
// was there before.
func (l *Local) Add(d *apiv1.Declaration) (undo func() error, err error) {
	if problems := mesh.CheckDeclaration(d); len(problems) > 0 {
		return nil, problemsError(problems)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	id := mesh.CompleteDeclaration(d).GetId()
	if source := l.source(id); source != "" && source != FromCommandLine {
		return nil, fmt.Errorf("service %s is declared in %s: change it there", id, source)
	}
	path := l.path(id)
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading what was declared before: %w", err)
	}
	data, err := config.EncodeDeclaration(d)
	if err != nil {
		return nil, err
	}
	if err := l.write(path, data); err != nil {
		return nil, err
	}
	return func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.write(path, before)
	}, nil
}

// Remove takes back what Add declared.
func (l *Local) Remove(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch source := l.source(id); source {
	case "":
		return fmt.Errorf("%w: %s; those that there are: meshd service list --local", ErrNotDeclared, id)
	case FromCommandLine:
		return l.write(l.path(id), nil)
	default:
		return fmt.Errorf("service %s is declared in %s: remove it there", id, source)
	}
}

// source of a service as it is in force, or "".
func (l *Local) source(id string) string {
	for _, s := range l.State().Services {
		if s.Declaration.GetId() == id {
			return s.Source
		}
	}
	return ""
}

// path where a declaration is kept. Ids have no slashes.
func (l *Local) path(id string) string {
	return filepath.Join(l.cfg.DeclaredDir, id+".yaml")
}

// write replaces a declaration, or removes it when there is no data, and puts
// the change in force.
func (l *Local) write(path string, data []byte) (err error) {
	if data == nil {
		err = atomicfile.Remove(path)
	} else {
		err = atomicfile.Write(path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keeping the declaration: %w", err)
	}
	l.declared.scan()
	l.refresh()
	return nil
}

func problemsError(problems []*apiv1.Problem) error {
	var b strings.Builder
	for i, p := range problems {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s: %s; %s", p.GetPath(), p.GetMessage(), p.GetFix())
	}
	return errors.New(b.String())
}
