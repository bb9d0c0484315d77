package http1

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/meshd/meshd/proxy/http1/codec"
	"github.com/meshd/meshd/proxy/observe"
)

// A stream is a connection from which bytes come in pieces of some size.
type stream struct {
	net.Conn
	data []byte
	step int
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.data[:min(s.step, len(s.data))])
	s.data = s.data[n:]
	return n, nil
}

func TestInputKeepsAHeadInPlace(t *testing.T) {
	head, body := strings.Repeat("h", 30<<10), strings.Repeat("b", 60<<10)
	in := input{conn: &stream{data: []byte(head + body), step: 32 << 10}}
	for len(in.bytes()) < len(head) {
		if err := in.fill(); err != nil {
			t.Fatal(err)
		}
	}
	kept := in.keep(len(head), len(head))
	var got []byte
	for len(got) < len(body) {
		got = append(got, in.bytes()...)
		in.take(len(in.bytes()))
		if err := in.fill(); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if len(got) == len(body) {
			break
		}
	}
	if string(kept) != head || string(got) != body {
		t.Error("the head or the body was damaged")
	}
	in.forget()
	in.shrink()
	if in.buf != nil {
		t.Error("a large buffer stays")
	}
}

func TestRefusalsOfAllCodes(t *testing.T) {
	for _, c := range observe.Codes() {
		if c == observe.Cancelled {
			continue // nobody is there to read it
		}
		raw := appendRefusal(nil, &observe.Problem{Code: c}, false, true, false)
		var s codec.Scanner
		head, n, err := s.Response(raw)
		var r codec.Response
		if err != nil || n == 0 || r.Parse(head) != nil {
			t.Fatalf("%s: %q: %v", c.Name, raw, err)
		}
		name, _ := r.Get("meshd-error")
		if r.Status != c.Status || len(r.Reason) == 0 || string(name) != c.Name || int(r.Length) != len(raw[n:]) || !bytes.HasSuffix(raw, []byte(".\n")) {
			t.Errorf("%s: %q", c.Name, raw)
		}
	}
}
