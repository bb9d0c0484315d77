package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

// DecodeDeclaration reads a file of services.d: one service a YAML document,
// with the fields of apiv1.Declaration. check: http:/healthz is short for a list
// of one check. What it returns is valid and complete, defaults filled in; an
// error is of type Problems.
func DecodeDeclaration(file string, data []byte) ([]*apiv1.Declaration, error) {
	src, bodies, err := parse(file, data)
	if err != nil {
		return nil, err
	}
	d := &decoder{src: src, emptyLists: true}
	if len(bodies) == 0 {
		d.addAt(1, 1, "begin with name: NAME and port: PORT", "the file declares no service")
	}
	var declarations []*apiv1.Declaration
	ids := map[string]bool{}
	for _, body := range bodies {
		declaration := d.declaration(body)
		if declaration == nil {
			continue
		}
		if ids[declaration.Id] {
			d.add(body, "give one of them an id of its own", "the file declares two services with the id %q", declaration.Id)
		}
		ids[declaration.Id] = true
		declarations = append(declarations, declaration)
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return declarations, nil
}

// declaration reads one service; it is nil after a problem.
func (d *decoder) declaration(n ast.Node) *apiv1.Declaration {
	before := d.count()
	entries := d.entries(n, "a service")
	declaration := &apiv1.Declaration{}
	var short *entry
	entries = slices.DeleteFunc(entries, func(e entry) bool {
		if e.key == "check" {
			short = &e
		}
		return e.key == "check"
	})
	d.fields(entries, declaration.ProtoReflect(), "a service", []string{"check"})
	if short != nil {
		d.shortCheck(*short, declaration)
	}
	if d.count() > before {
		return nil
	}
	for _, p := range mesh.CheckDeclaration(declaration) {
		line, column := locate(n, declarationPath(p.Path, short != nil))
		d.addAt(line, column, p.Fix, "%s", p.Message)
	}
	if d.count() > before {
		return nil
	}
	return mesh.CompleteDeclaration(declaration)
}

// declarationPath leads to the short form of a check when that is what was
// written.
func declarationPath(path string, short bool) string {
	if short && strings.HasPrefix(path, "checks[0]") {
		return "check"
	}
	return path
}

func (d *decoder) shortCheck(e entry, declaration *apiv1.Declaration) {
	if d.isNothing(e) {
		return
	}
	if len(declaration.Checks) > 0 {
		d.add(e.name, "put both into checks", "check and checks exclude each other")
		return
	}
	s, ok := d.text(e.value, `"check"`)
	if !ok {
		return
	}
	check, err := ParseCheck(s)
	if err != nil {
		d.add(e.value, "write http:/healthz or tcp, or a list under checks", "%v", err)
		return
	}
	declaration.Checks = []*apiv1.CheckSpec{check}
}

// ParseCheck reads the short form of a check, as flags and files have it:
// http:/PATH, http (the path /), tcp (the service's port), tcp:PORT or
// tcp:ADDRESS:PORT.
func ParseCheck(s string) (*apiv1.CheckSpec, error) {
	kind, what, given := strings.Cut(s, ":")
	switch kind {
	case "http":
		if !given {
			what = "/"
		}
		if !strings.HasPrefix(what, "/") {
			return nil, fmt.Errorf("check %q does not name a path that begins with /", s)
		}
		return &apiv1.CheckSpec{Kind: &apiv1.CheckSpec_Http{Http: what}}, nil
	case "tcp":
		if !strings.Contains(what, ":") {
			what = ":" + what
		}
		return &apiv1.CheckSpec{Kind: &apiv1.CheckSpec_Tcp{Tcp: what}}, nil
	}
	return nil, fmt.Errorf("check %q is neither http:/PATH nor tcp", s)
}

// EncodeDeclaration writes a declaration as a file of services.d, which decodes
// to the same.
func EncodeDeclaration(d *apiv1.Declaration) ([]byte, error) {
	e := &encoder{}
	e.message(d.ProtoReflect(), 0)
	out, err := e.result()
	if err != nil {
		return nil, fmt.Errorf("encoding the declaration of %q: %w", d.GetName(), err)
	}
	return out, nil
}
