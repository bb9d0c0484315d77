package l4

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/meshd/meshd/proxy/observe"
)

func TestGreeting(t *testing.T) {
	for _, code := range append(observe.Codes(), nil) {
		var wire bytes.Buffer
		if err := writeGreeting(&wire, code); err != nil {
			t.Fatal(err)
		}
		wire.WriteString("rest")
		got, err := readGreeting(&wire)
		if err != nil || got != code || wire.String() != "rest" {
			t.Errorf("%v became %v, %v, and left %q", code, got, err, wire.String())
		}
	}
	if _, err := readGreeting(strings.NewReader("")); !errors.Is(err, io.EOF) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := readGreeting(strings.NewReader("\x05den")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half of it: %v", err)
	}
	if _, err := readGreeting(strings.NewReader("\x03new")); err == nil || !strings.Contains(err.Error(), `"new"`) {
		t.Errorf("an unknown one: %v", err)
	}
}

func FuzzGreeting(f *testing.F) {
	f.Add([]byte("\x00hello"))
	f.Add([]byte("\x06denied"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		code, err := readGreeting(bytes.NewReader(raw))
		if err == nil && code == nil && raw[0] != 0 {
			t.Errorf("%q is taken for consent", raw)
		}
	})
}
