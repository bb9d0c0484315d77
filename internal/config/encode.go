package config

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

// EncodeResource writes a resource as YAML that decodes to the same.
func EncodeResource(r *apiv1.Resource) ([]byte, error) {
	kind := mesh.ResourceKind(r)
	if kind == "" {
		return nil, fmt.Errorf("encoding resource %q: it has no kind", r.GetName())
	}
	e := &encoder{}
	e.line(0, "kind", kind)
	e.line(0, "name", e.quote(r.GetName()))
	if r.GetVersion() != 0 {
		e.line(0, "version", strconv.FormatUint(r.GetVersion(), 10))
	}
	m := r.ProtoReflect()
	e.message(m.Get(m.Descriptor().Fields().ByName(protoreflect.Name(kind))).Message(), 0)
	out, err := e.result()
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", mesh.KeyOf(r), err)
	}
	return out, nil
}

// An encoder writes messages as the decoder reads them.
type encoder struct {
	out bytes.Buffer
	err error // the first value that cannot be written
}

func (e *encoder) result() ([]byte, error) {
	return e.out.Bytes(), e.err
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}

func (e *encoder) line(indent int, key, value string) {
	fmt.Fprintf(&e.out, "%*s%s: %s\n", indent, "", key, value)
}

// message writes the fields that are set, in the order of the contract.
func (e *encoder) message(m protoreflect.Message, indent int) {
	if len(m.GetUnknown()) > 0 {
		e.fail("%s holds a field that this version does not know", title(m.Descriptor()))
	}
	if f := onlyMap(m.Descriptor()); f != nil {
		e.entries(m.Get(f).Map(), f, indent)
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); m.Has(f) {
			e.field(string(f.Name()), m.Get(f), f, indent)
		}
	}
}

func (e *encoder) field(key string, v protoreflect.Value, f protoreflect.FieldDescriptor, indent int) {
	switch {
	case f.IsMap():
		fmt.Fprintf(&e.out, "%*s%s:\n", indent, "", key)
		e.entries(v.Map(), f, indent+2)
	case f.IsList() && f.Message() != nil:
		fmt.Fprintf(&e.out, "%*s%s:\n", indent, "", key)
		e.items(v.List(), indent+2)
	case f.IsList():
		e.line(indent, key, e.words(v.List(), f))
	case f.Message() != nil && !isDuration(f):
		e.nested(key, v.Message(), indent)
	default:
		e.line(indent, key, e.scalar(v, f))
	}
}

func (e *encoder) nested(key string, m protoreflect.Message, indent int) {
	if isEmpty(m) {
		e.line(indent, key, "{}")
		return
	}
	fmt.Fprintf(&e.out, "%*s%s:\n", indent, "", key)
	e.message(m, indent+2)
}

func isEmpty(m protoreflect.Message) bool {
	empty := len(m.GetUnknown()) == 0
	m.Range(func(protoreflect.FieldDescriptor, protoreflect.Value) bool {
		empty = false
		return false
	})
	return empty
}

// items writes messages after dashes: the first field of each on the line of
// its dash.
func (e *encoder) items(list protoreflect.List, indent int) {
	for i := range list.Len() {
		m := list.Get(i).Message()
		if isEmpty(m) {
			fmt.Fprintf(&e.out, "%*s- {}\n", indent, "")
			continue
		}
		at := e.out.Len()
		e.message(m, indent+2)
		e.out.Bytes()[at+indent] = '-'
	}
}

func (e *encoder) words(list protoreflect.List, f protoreflect.FieldDescriptor) string {
	words := make([]string, list.Len())
	for i := range words {
		words[i] = e.scalar(list.Get(i), f)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

func (e *encoder) entries(m protoreflect.Map, f protoreflect.FieldDescriptor, indent int) {
	values := map[string]protoreflect.Value{}
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		values[k.String()] = v
		return true
	})
	for _, k := range slices.Sorted(maps.Keys(values)) {
		if f.MapValue().Message() != nil {
			e.nested(e.quote(k), values[k].Message(), indent)
			continue
		}
		e.line(indent, e.quote(k), e.scalar(values[k], f.MapValue()))
	}
}

func (e *encoder) scalar(v protoreflect.Value, f protoreflect.FieldDescriptor) string {
	switch f.Kind() {
	case protoreflect.StringKind:
		return e.quote(v.String())
	case protoreflect.DoubleKind:
		return e.number(v.Float())
	case protoreflect.EnumKind:
		return e.enum(v.Enum(), f.Enum())
	case protoreflect.MessageKind:
		return e.duration(v.Message().Interface().(*durationpb.Duration))
	}
	return v.String()
}

func (e *encoder) number(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		e.fail("the number %g cannot be written", x)
	}
	return strconv.FormatFloat(x, 'f', -1, 64)
}

func (e *encoder) enum(n protoreflect.EnumNumber, enum protoreflect.EnumDescriptor) string {
	words := enumWords(enum)
	for i, word := range words {
		if i > 0 && enum.Values().Get(i).Number() == n {
			return word
		}
	}
	e.fail("%s number %d has no word", title(enum), n)
	return ""
}

// duration writes 5m, where Go writes 5m0s.
func (e *encoder) duration(d *durationpb.Duration) string {
	v := d.AsDuration()
	if !durationFits(d, v) {
		e.fail("a duration is out of range")
	}
	s := v.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}

func durationFits(d *durationpb.Duration, v time.Duration) bool {
	return d.CheckValid() == nil && durationpb.New(v).Seconds == d.Seconds && durationpb.New(v).Nanos == d.Nanos
}

// quote writes text plainly where YAML can take it for nothing else.
func (e *encoder) quote(s string) string {
	if !utf8.ValidString(s) {
		e.fail("the text %q is not UTF-8", s)
	}
	if isPlain(s) {
		return s
	}
	return strconv.Quote(s)
}

func isPlain(s string) bool {
	letters := false
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		letters = letters || letter
		if !letter && !(c >= '0' && c <= '9') && c != '/' && (i == 0 || strings.IndexByte("-_.@", c) < 0) {
			return false
		}
	}
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan":
		return false
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return false
	}
	_, err := strconv.ParseInt(s, 0, 64)
	return err != nil && (letters || strings.HasPrefix(s, "/"))
}
