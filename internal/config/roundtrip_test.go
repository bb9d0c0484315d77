package config

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

// anyText draws the strings that an encoder gets wrong first.
func anyText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[a-z]{1,8}`),
		rapid.SampledFrom([]string{"", "true", "no", "null", "~", "1", "1.10", "0x10", "1e3", ".5", "1_000", "0o7", "- a", "a: b", "#", "a #b", "*", "&x", "!t", "|", ">", "'", `"`,
			" a ", "\n", "a\nb", "\t", "é", "\u0085", "\u2028", "\ufeff", "\x00", "\x7f", "---", "...", "?", "[", "{", "}", "%", "@", "`", "5xx", "<<", "2020-01-01", "1:30", ".inf", "/a/*", "a,b", "\\", "\\x"}),
	)
}

// anyMessage fills m with anything that the contract can hold.
func anyMessage(t *rapid.T, m protoreflect.Message, skip ...string) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if contains(skip, string(f.Name())) || !rapid.Bool().Draw(t, "set") {
			continue
		}
		switch {
		case f.IsMap():
			anyMap(t, m.Mutable(f).Map(), f)
		case f.IsList():
			list := m.Mutable(f).List()
			for range rapid.IntRange(1, 3).Draw(t, "n") {
				list.Append(anyValue(t, list.NewElement(), f))
			}
		default:
			m.Set(f, anyValue(t, m.NewField(f), f))
		}
	}
}

func contains(words []string, word string) bool {
	return strings.Contains(" "+strings.Join(words, " ")+" ", " "+word+" ")
}

func anyMap(t *rapid.T, m protoreflect.Map, f protoreflect.FieldDescriptor) {
	for range rapid.IntRange(0, 3).Draw(t, "n") {
		key := protoreflect.ValueOfString(anyText().Draw(t, "key")).MapKey()
		m.Set(key, anyValue(t, m.NewValue(), f.MapValue()))
	}
}

func anyValue(t *rapid.T, zero protoreflect.Value, f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(anyText().Draw(t, "text"))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(rapid.Uint32().Draw(t, "number"))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(rapid.Float64().Draw(t, "number"))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(rapid.IntRange(0, f.Enum().Values().Len()-1).Draw(t, "enum")))
	}
	if isDuration(f) {
		d := durationpb.New(rapid.SampledFrom(durations).Draw(t, "duration"))
		return protoreflect.ValueOfMessage(d.ProtoReflect())
	}
	anyMessage(t, zero.Message())
	return zero
}

func TestResourceRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &apiv1.Resource{Name: anyText().Draw(t, "name"), Version: rapid.Uint64().Draw(t, "version")}
		members := r.ProtoReflect().Descriptor().Oneofs().ByName("spec").Fields()
		f := members.Get(rapid.IntRange(0, members.Len()-1).Draw(t, "kind"))
		spec := r.ProtoReflect().Mutable(f).Message()
		anyMessage(t, spec)
		out, err := EncodeResource(r)
		if err != nil {
			t.Fatal(err)
		}
		docs, err := DecodeResources("out.yaml", out)
		if err != nil {
			t.Fatalf("%s\n%v", out, err)
		}
		if len(docs) != 1 || !proto.Equal(docs[0].Resource, r) {
			t.Fatalf("%s\nwas  %v\nnow %v", out, r, docs[0].Resource)
		}
	})
}

func TestDeclarationRoundTrip(t *testing.T) {
	d := mesh.CompleteDeclaration(&apiv1.Declaration{
		Name: "web", Id: "web:1", Port: 8080, Unit: "web@1.service", User: "www-data", Tags: []string{"1", "v2"}, Weight: proto.Uint32(4),
		Meta:   map[string]string{"version": "1.10", "empty": ""},
		Checks: []*apiv1.CheckSpec{{Kind: &apiv1.CheckSpec_Http{Http: "/"}}, {Kind: &apiv1.CheckSpec_Tcp{Tcp: ":"}, Interval: durationpb.New(90e9)}},
	})
	out, err := EncodeDeclaration(d)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeDeclaration("web.yaml", out)
	if err != nil || len(back) != 1 || !proto.Equal(back[0], d) {
		t.Fatalf("%s\n%v %v", out, back, err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	f := func(r *apiv1.Resource, want string) {
		t.Helper()
		if _, err := EncodeResource(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something with %q", err, want)
		}
	}
	service := func(s *apiv1.Service) *apiv1.Resource {
		return &apiv1.Resource{Name: "a", Spec: &apiv1.Resource_Service{Service: s}}
	}
	f(&apiv1.Resource{Name: "a"}, "it has no kind")
	f(service(&apiv1.Service{Protocol: 9}), "protocol number 9 has no word")
	f(service(&apiv1.Service{Breaker: &apiv1.Breaker{SuccessRate: proto.Float64(math.Inf(1))}}), "the number +Inf cannot be written")
	f(service(&apiv1.Service{Timeout: &apiv1.Timeouts{Idle: &durationpb.Duration{Seconds: 1 << 40}}}), "a duration is out of range")
	f(service(&apiv1.Service{Balance: &apiv1.Balance{Policy: "\xff"}}), "is not UTF-8")
	newer := service(&apiv1.Service{Balance: &apiv1.Balance{}})
	newer.GetService().Balance.ProtoReflect().SetUnknown([]byte{0xa0, 0x06, 0x01})
	f(newer, "balance holds a field that this version does not know")
}

// Every field that can be written is of a kind that the decoder reads, and no
// kind of resource has a field that its header hides.
func TestContractIsReadable(t *testing.T) {
	var walk func(m protoreflect.MessageDescriptor, hidden []string)
	walk = func(m protoreflect.MessageDescriptor, hidden []string) {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			if contains(hidden, string(f.Name())) {
				t.Errorf("%s cannot be written: the header has a key of that name", f.FullName())
			}
			if err := readable(f); err != nil {
				t.Error(err)
			}
			value := f
			if f.IsMap() {
				value = f.MapValue()
			}
			if value.Message() != nil && !isDuration(value) {
				walk(value.Message(), nil)
			}
		}
	}
	members := (&apiv1.Resource{}).ProtoReflect().Descriptor().Oneofs().ByName("spec").Fields()
	for i := range members.Len() {
		walk(members.Get(i).Message(), header)
	}
	walk((&apiv1.Declaration{}).ProtoReflect().Descriptor(), []string{"check"})
}

func readable(f protoreflect.FieldDescriptor) error {
	switch {
	case f.IsMap() && f.MapKey().Kind() != protoreflect.StringKind:
		return fmt.Errorf("%s: only text is read as a key", f.FullName())
	case f.IsList() && isDuration(f), f.IsMap() && isDuration(f.MapValue()):
		return fmt.Errorf("%s: durations are read only as single fields", f.FullName())
	case f.Message() != nil:
		return nil
	}
	switch f.Kind() {
	case protoreflect.StringKind, protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.DoubleKind, protoreflect.BoolKind:
		return nil
	case protoreflect.EnumKind:
		if f.Enum().Values().Get(0).Number() != 0 || !strings.HasSuffix(string(f.Enum().Values().Get(0).Name()), "_UNSPECIFIED") {
			return fmt.Errorf("%s: the first value does not stand for absent", f.FullName())
		}
		return nil
	}
	return fmt.Errorf("%s: kind %s is not read", f.FullName(), f.Kind())
}
