package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A decoder fills messages from YAML and collects what is wrong on the way.
type decoder struct {
	src      *source
	problems Problems
	unshown  int // problems past the first maxProblems
	// emptyLists allows lists with nothing in them. In resources an empty list
	// of methods or paths would match everything, which its writer did not mean.
	emptyLists bool
}

// add notes a problem at n.
func (d *decoder) add(n ast.Node, fix, format string, args ...any) {
	line, column := start(n)
	d.addAt(line, column, fix, format, args...)
}

func (d *decoder) addAt(line, column int, fix, format string, args ...any) {
	if len(d.problems) == maxProblems {
		d.unshown++
		return
	}
	d.problems = append(d.problems, d.src.problem(line, column, fix, fmt.Sprintf(format, args...)))
}

// count is how many problems there are so far.
func (d *decoder) count() int { return len(d.problems) + d.unshown }

// err gives what was found as an error.
func (d *decoder) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	if d.unshown > 0 {
		rest := Problem{Position: Position{File: d.src.file}, Message: fmt.Sprintf("%d more mistakes are not shown", d.unshown)}
		return append(d.problems, rest)
	}
	return d.problems
}

// An entry is one key of a mapping with its value.
type entry struct {
	key   string
	name  ast.Node
	value ast.Node
}

// entries gives what n maps, once each. what names n in messages.
func (d *decoder) entries(n ast.Node, what string) []entry {
	values, ok := pairs(n)
	if !ok {
		d.add(n, "write it as key: value", "%s must be a mapping, not %s", what, describe(n))
		return nil
	}
	seen := make(map[string]int, len(values))
	entries := make([]entry, 0, len(values))
	for _, v := range values {
		key, ok := text(v.Key)
		if !ok {
			d.add(v.Key, "write the key as a plain word", "%s cannot be a key", describe(v.Key))
			continue
		}
		if line, twice := seen[key]; twice {
			d.add(v.Key, "keep one of the two", "%q is given twice, first on line %d", key, line)
			continue
		}
		seen[key], _ = start(v.Key)
		entries = append(entries, entry{key, v.Key, v.Value})
	}
	return entries
}

// message fills m from n. what names n in messages.
func (d *decoder) message(n ast.Node, m protoreflect.Message, what string) {
	if f := onlyMap(m.Descriptor()); f != nil {
		d.mapField(n, m, f, what)
		return
	}
	d.fields(d.entries(n, what), m, what, nil)
}

// fields fills m from entries; also names keys that are known besides.
func (d *decoder) fields(entries []entry, m protoreflect.Message, what string, also []string) {
	for _, e := range entries {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(e.key))
		switch {
		case f == nil:
			d.add(e.name, suggest(e.key, append(also, fieldNames(m.Descriptor())...)), "there is no field %q in %s", e.key, what)
		case d.isNothing(e):
		case d.excluded(e, m, f):
		default:
			d.field(e.value, m, f)
		}
	}
}

func (d *decoder) isNothing(e entry) bool {
	if _, null := e.value.(*ast.NullNode); !null {
		return false
	}
	d.add(e.name, "give it one, or leave the field out", "%q has no value", e.key)
	return true
}

// excluded refuses a second member of a oneof.
func (d *decoder) excluded(e entry, m protoreflect.Message, f protoreflect.FieldDescriptor) bool {
	oneof := f.ContainingOneof()
	if oneof == nil || oneof.IsSynthetic() || m.WhichOneof(oneof) == nil {
		return false
	}
	d.add(e.name, "keep one of the two", "%s and %s exclude each other", m.WhichOneof(oneof).Name(), e.key)
	return true
}

func (d *decoder) field(n ast.Node, m protoreflect.Message, f protoreflect.FieldDescriptor) {
	what := strconv.Quote(string(f.Name()))
	switch {
	case f.IsMap():
		d.mapField(n, m, f, what)
	case f.IsList():
		d.list(n, m, f)
	case isDuration(f):
		if v, ok := d.duration(n, what); ok {
			m.Set(f, v)
		}
	case f.Message() != nil:
		d.message(n, m.Mutable(f).Message(), what)
	default:
		if v, ok := d.scalar(n, f, what); ok {
			m.Set(f, v)
		}
	}
}

func (d *decoder) list(n ast.Node, m protoreflect.Message, f protoreflect.FieldDescriptor) {
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		d.add(n, fmt.Sprintf("write %s: [...], or one item on each line after a dash", f.Name()), "%q must be a list, not %s", f.Name(), describe(n))
		return
	}
	if len(sequence.Values) == 0 && !d.emptyLists {
		d.add(n, "leave the field out, or list what it is about", "%q is an empty list, which is the same as none", f.Name())
	}
	list := m.Mutable(f).List()
	for _, item := range sequence.Values {
		d.item(item, list, f)
	}
}

func (d *decoder) item(n ast.Node, list protoreflect.List, f protoreflect.FieldDescriptor) {
	what := fmt.Sprintf("an item of %q", f.Name())
	if _, null := n.(*ast.NullNode); null {
		d.add(n, "remove it, or give it a value", "%s has no value", what)
		return
	}
	if f.Message() != nil {
		item := list.NewElement()
		d.message(n, item.Message(), what)
		list.Append(item)
		return
	}
	if v, ok := d.scalar(n, f, what); ok {
		list.Append(v)
	}
}

func (d *decoder) mapField(n ast.Node, m protoreflect.Message, f protoreflect.FieldDescriptor, what string) {
	values := m.Mutable(f).Map()
	for _, e := range d.entries(n, what) {
		key := protoreflect.ValueOfString(e.key).MapKey()
		switch {
		case d.isNothing(e):
		case f.MapValue().Message() != nil:
			v := values.NewValue()
			d.message(e.value, v.Message(), strconv.Quote(e.key))
			values.Set(key, v)
		default:
			if v, ok := d.scalar(e.value, f.MapValue(), strconv.Quote(e.key)); ok {
				values.Set(key, v)
			}
		}
	}
}

// onlyMap gives the one field of a message that is written as that field alone.
func onlyMap(m protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	if m.Fields().Len() == 1 && m.Fields().Get(0).IsMap() {
		return m.Fields().Get(0)
	}
	return nil
}

func isDuration(f protoreflect.FieldDescriptor) bool {
	return f.Message() != nil && f.Message().FullName() == "google.protobuf.Duration"
}

func fieldNames(m protoreflect.MessageDescriptor) []string {
	names := make([]string, m.Fields().Len())
	for i := range names {
		names[i] = string(m.Fields().Get(i).Name())
	}
	return names
}

// title names a type in a sentence: RouteRule is "route rule".
func title(m protoreflect.Descriptor) string {
	var b strings.Builder
	for i, c := range string(m.Name()) {
		if c >= 'A' && c <= 'Z' && i > 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return strings.ToLower(b.String())
}
