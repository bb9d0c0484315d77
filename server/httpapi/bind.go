package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// bind sets the fields of a request that its path and its query name. The fields
// of a page are named as if they were the request's own.
func bind(e *endpoint, r *http.Request, request proto.Message) error {
	m := request.ProtoReflect()
	for _, name := range placeholders(e.Path) {
		if f := m.Descriptor().Fields().ByName(protoreflect.Name(name)); f != nil {
			m.Set(f, protoreflect.ValueOfString(r.PathValue(name)))
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return badRequest(http.StatusBadRequest, "escape it as a URL's query", "the query cannot be read")
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if err := bindQuery(e, m, name, query[name]); err != nil {
			return err
		}
	}
	return nil
}

// placeholders lists the names in braces of a path.
func placeholders(path string) (names []string) {
	for part := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			names = append(names, strings.TrimSuffix(name, "}"))
		}
	}
	return names
}

func bindQuery(e *endpoint, m protoreflect.Message, name string, values []string) error {
	known := parameters(m.Descriptor(), placeholders(e.Path))
	if !slices.Contains(known, name) {
		return badRequest(http.StatusBadRequest, "it takes "+orNothing(known), "%s takes no parameter %q", e.Path, name)
	}
	f := m.Descriptor().Fields().ByName(protoreflect.Name(name))
	if f == nil {
		page := m.Descriptor().Fields().ByName("page")
		m = m.Mutable(page).Message()
		f = page.Message().Fields().ByName(protoreflect.Name(name))
	}
	if f.IsMap() {
		return bindMap(m.Mutable(f).Map(), name, values)
	}
	if len(values) != 1 {
		return badRequest(http.StatusBadRequest, "give it once", "the parameter %q is given %d times", name, len(values))
	}
	v, err := parseScalar(f, values[0])
	if err != nil {
		return badRequest(http.StatusBadRequest, "", "the parameter %q: %v", name, err)
	}
	m.Set(f, v)
	return nil
}

// parameters lists what a query may set: scalars and maps of text, but not what
// the path has.
func parameters(d protoreflect.MessageDescriptor, taken []string) (names []string) {
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		switch {
		case f.Name() == "page":
			names = append(names, parameters(f.Message(), nil)...)
		case f.IsMap() && f.MapValue().Kind() == protoreflect.StringKind, isScalar(f):
			names = append(names, string(f.Name()))
		}
	}
	return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(taken, n) })
}

func isScalar(f protoreflect.FieldDescriptor) bool {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.BytesKind, protoreflect.GroupKind:
		return false
	}
	return !f.IsList() && !f.IsMap()
}

func bindMap(m protoreflect.Map, name string, values []string) error {
	for _, text := range values {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return badRequest(http.StatusBadRequest, "write "+name+"=KEY=VALUE", "the parameter %q has no key and value", name)
		}
		m.Set(protoreflect.ValueOfString(key).MapKey(), protoreflect.ValueOfString(value))
	}
	return nil
}

func parseScalar(f protoreflect.FieldDescriptor, text string) (v protoreflect.Value, err error) {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text), nil
	case protoreflect.BoolKind:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return v, fmt.Errorf("%q is neither true nor false", text)
		}
		return protoreflect.ValueOfBool(b), nil
	case protoreflect.EnumKind:
		return parseEnum(f.Enum(), text)
	}
	return parseNumber(f, text)
}

func parseNumber(f protoreflect.FieldDescriptor, text string) (v protoreflect.Value, err error) {
	switch f.Kind() {
	case protoreflect.Uint32Kind:
		n, err := strconv.ParseUint(text, 10, 32)
		if err == nil {
			return protoreflect.ValueOfUint32(uint32(n)), nil
		}
	case protoreflect.Uint64Kind:
		n, err := strconv.ParseUint(text, 10, 64)
		if err == nil {
			return protoreflect.ValueOfUint64(n), nil
		}
	case protoreflect.Int64Kind:
		n, err := strconv.ParseInt(text, 10, 64)
		if err == nil {
			return protoreflect.ValueOfInt64(n), nil
		}
	}
	return v, fmt.Errorf("%q is not a number that it takes", text)
}

// parseEnum takes the value's own part of its name, in lower case: alive for
// NODE_STATE_ALIVE.
func parseEnum(enum protoreflect.EnumDescriptor, text string) (v protoreflect.Value, err error) {
	zero := string(enum.Values().Get(0).Name())
	prefix := strings.TrimSuffix(zero, "UNSPECIFIED")
	var words []string
	for i := 1; i < enum.Values().Len(); i++ {
		value := enum.Values().Get(i)
		word := strings.ToLower(strings.TrimPrefix(string(value.Name()), prefix))
		if word == text {
			return protoreflect.ValueOfEnum(value.Number()), nil
		}
		words = append(words, word)
	}
	return v, fmt.Errorf("%q is not one of %s", text, strings.Join(words, ", "))
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
