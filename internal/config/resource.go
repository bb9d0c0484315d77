package config

import (
	"cmp"
	"slices"

	"github.com/goccy/go-yaml/ast"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

// A Document is one resource of a file.
type Document struct {
	Resource *apiv1.Resource
	body     ast.Node
	src      *source
}

// Locate gives the place of a path of an apiv1.Problem about the resource; for
// something absent, the place where it would be.
func (d Document) Locate(path string) Position {
	line, column := locate(d.body, path)
	return Position{d.src.file, line, column}
}

// DecodeResources reads the resources of a file, one a YAML document. An error
// is of type Problems and lists every mistake that the file alone shows; what
// resources say together is for mesh.ValidateSet, whose problems Report shows.
func DecodeResources(file string, data []byte) ([]Document, error) {
	src, bodies, err := parse(file, data)
	if err != nil {
		return nil, err
	}
	d := &decoder{src: src}
	if len(bodies) == 0 {
		d.addAt(1, 1, "begin with kind: service, route, policy or mesh", "the file holds no resource")
	}
	var docs []Document
	for _, body := range bodies {
		if r := d.resource(body); r != nil {
			docs = append(docs, Document{r, body, src})
		}
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return docs, nil
}

// Report turns problems found in the resources of docs, in that order, into an
// error that shows where they stand. It is nil when there are none.
func Report(docs []Document, problems []*apiv1.Problem) error {
	if len(problems) == 0 {
		return nil
	}
	var report Problems
	for i, doc := range docs {
		var own Problems
		for _, p := range problems {
			if int(p.GetResource()) == i {
				at := doc.Locate(p.GetPath())
				own = append(own, doc.src.problem(at.Line, at.Column, p.GetFix(), p.GetMessage()))
			}
		}
		slices.SortStableFunc(own, func(a, b Problem) int {
			return cmp.Or(a.Line-b.Line, a.Column-b.Column)
		})
		report = append(report, own...)
	}
	for _, p := range problems {
		if int(p.GetResource()) < 0 || int(p.GetResource()) >= len(docs) {
			report = append(report, Problem{Message: p.GetMessage(), Fix: p.GetFix()})
		}
	}
	return report
}

// header are the keys that a resource has before those of its kind.
var header = []string{"kind", "name", "version"}

func (d *decoder) resource(n ast.Node) *apiv1.Resource {
	entries := d.entries(n, "a resource")
	if entries == nil {
		return nil
	}
	r := &apiv1.Resource{}
	head := map[string]entry{}
	rest := slices.DeleteFunc(entries, func(e entry) bool {
		if slices.Contains(header, e.key) {
			head[e.key] = e
			return true
		}
		return false
	})
	spec := d.kind(n, head, r)
	if spec == nil {
		return nil
	}
	d.name(n, head, r)
	if v, ok := head["version"]; ok && !d.isNothing(v) {
		r.Version, _ = d.unsigned(v.value, `"version"`, 64)
	}
	d.fields(rest, spec, "a "+mesh.ResourceKind(r), header)
	return r
}

// kind sets the spec that the document's kind names, and gives it to be filled.
func (d *decoder) kind(n ast.Node, head map[string]entry, r *apiv1.Resource) protoreflect.Message {
	e, ok := head["kind"]
	if !ok {
		d.add(n, "begin with kind: service, route, policy or mesh", "the resource does not say of what kind it is")
		return nil
	}
	if d.isNothing(e) {
		return nil
	}
	kind, ok := d.text(e.value, `"kind"`)
	if !ok {
		return nil
	}
	members := r.ProtoReflect().Descriptor().Oneofs().ByName("spec").Fields()
	f := members.ByName(protoreflect.Name(kind))
	if f == nil {
		d.add(e.value, suggest(kind, memberNames(members)), "there is no kind of resource named %q", kind)
		return nil
	}
	return r.ProtoReflect().Mutable(f).Message()
}

func (d *decoder) name(n ast.Node, head map[string]entry, r *apiv1.Resource) {
	e, ok := head["name"]
	switch {
	case ok && !d.isNothing(e):
		r.Name, _ = d.text(e.value, `"name"`)
	case ok:
	case r.GetMesh() != nil:
		r.Name = mesh.MeshName
	default:
		d.add(n, "add name: NAME after the kind", "the %s has no name", mesh.ResourceKind(r))
	}
}

func memberNames(fields protoreflect.FieldDescriptors) []string {
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = string(fields.Get(i).Name())
	}
	return names
}
