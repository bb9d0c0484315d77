package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// scalar reads n as the kind of f. what names n in messages.
func (d *decoder) scalar(n ast.Node, f protoreflect.FieldDescriptor, what string) (protoreflect.Value, bool) {
	switch f.Kind() {
	case protoreflect.StringKind:
		s, ok := d.text(n, what)
		return protoreflect.ValueOfString(s), ok
	case protoreflect.Uint32Kind:
		u, ok := d.unsigned(n, what, 32)
		return protoreflect.ValueOfUint32(uint32(u)), ok
	case protoreflect.Uint64Kind:
		u, ok := d.unsigned(n, what, 64)
		return protoreflect.ValueOfUint64(u), ok
	case protoreflect.DoubleKind:
		x, ok := d.number(n, what)
		return protoreflect.ValueOfFloat64(x), ok
	case protoreflect.BoolKind:
		b, ok := d.boolean(n, what)
		return protoreflect.ValueOfBool(b), ok
	case protoreflect.EnumKind:
		e, ok := d.enum(n, what, f.Enum())
		return protoreflect.ValueOfEnum(e), ok
	}
	// A test walks through every message that is read and finds such a field.
	panic(fmt.Sprintf("BUG: field %s is of kind %s, which the decoder does not know", f.FullName(), f.Kind()))
}

// text takes any scalar as it is written, so that 503 and 1.10 need no quotes.
func (d *decoder) text(n ast.Node, what string) (string, bool) {
	s, ok := text(n)
	if !ok {
		d.add(n, "write a word, or text in quotes", "%s must be text, not %s", what, describe(n))
	}
	return s, ok
}

func (d *decoder) unsigned(n ast.Node, what string, bits int) (uint64, bool) {
	s, ok := plain(n)
	if !ok {
		d.notNumber(n, what, "a whole number")
		return 0, false
	}
	u, err := strconv.ParseUint(s, 10, bits)
	if err != nil {
		d.add(n, fmt.Sprintf("use 0 to %d, in decimal digits", uint64(math.MaxUint64)>>(64-bits)), "%s must be a whole number, not %q", what, s)
	}
	return u, err == nil
}

func (d *decoder) number(n ast.Node, what string) (float64, bool) {
	s, ok := plain(n)
	if !ok {
		d.notNumber(n, what, "a number")
		return 0, false
	}
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(x, 0) || math.IsNaN(x) || strings.ContainsAny(s, "xX_") {
		d.add(n, "write a number such as 0.2", "%s must be a number, not %q", what, s)
		return 0, false
	}
	return x, true
}

func (d *decoder) notNumber(n ast.Node, what, want string) {
	fix := "write " + want
	if s, ok := text(n); ok {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			fix = "take the quotes away: " + s
		}
	}
	d.add(n, fix, "%s must be %s, not %s", what, want, describe(n))
}

func (d *decoder) boolean(n ast.Node, what string) (bool, bool) {
	if s, ok := plain(n); ok && (s == "true" || s == "false") {
		return s == "true", true
	}
	d.add(n, "write true or false", "%s must be true or false, not %s", what, describe(n))
	return false, false
}

func (d *decoder) duration(n ast.Node, what string) (protoreflect.Value, bool) {
	s, ok := text(n)
	if !ok {
		d.add(n, "write a duration such as 15s, 2m or 1h30m", "%s must be a duration, not %s", what, describe(n))
		return protoreflect.Value{}, false
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		d.add(n, durationFix(s), "%s must be a duration, not %q", what, s)
		return protoreflect.Value{}, false
	}
	return protoreflect.ValueOfMessage(durationpb.New(v).ProtoReflect()), true
}

func durationFix(s string) string {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return fmt.Sprintf("add a unit: %ss or %sms", s, s)
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return fmt.Sprintf("write days as hours: %dh", n*24)
		}
	}
	return "write a duration such as 15s, 2m or 1h30m; units are ns, us, ms, s, m and h"
}

func (d *decoder) enum(n ast.Node, what string, e protoreflect.EnumDescriptor) (protoreflect.EnumNumber, bool) {
	words := enumWords(e)
	s, ok := text(n)
	if !ok {
		d.add(n, "use one of "+strings.Join(words[1:], ", "), "%s must be a word, not %s", what, describe(n))
		return 0, false
	}
	for i, word := range words {
		if i > 0 && word == s {
			return e.Values().Get(i).Number(), true
		}
	}
	d.add(n, suggest(s, words[1:]), "%s cannot be %q", what, s)
	return 0, false
}

// enumWords are the values of an enum as they are written: lower case, without
// the name of the enum. The first one stands for an absent field.
func enumWords(e protoreflect.EnumDescriptor) []string {
	prefix := strings.ToUpper(strings.ReplaceAll(title(e), " ", "_")) + "_"
	words := make([]string, e.Values().Len())
	for i := range words {
		words[i] = strings.ToLower(strings.TrimPrefix(string(e.Values().Get(i).Name()), prefix))
	}
	return words
}
