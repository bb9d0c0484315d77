package http1

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

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

func chunkedBody(t *testing.T) codec.Body {
	t.Helper()
	var r codec.Request
	if err := r.Parse([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	return r.Body()
}

func TestRequestBodyIsReplayed(t *testing.T) {
	payload := strings.Repeat("0123456789", 5000)
	raw := codec.AppendEnd(codec.AppendChunk(codec.AppendChunk(nil, []byte(payload[:7])), []byte(payload[7:])), nil)
	for _, stop := range []int{0, 1, 5, 100} {
		in := &input{conn: &stream{data: raw, step: 1000}}
		var b requestBody
		b.reset(in, chunkedBody(t))
		read := func(pieces int) (got []byte) {
			for i := 0; i != pieces && !b.done(); i++ {
				p, err := b.next(true)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, p...)
			}
			return got
		}
		first := read(stop)
		if !strings.HasPrefix(payload, string(first)) || b.lost {
			t.Fatalf("%d bytes at first, lost %v", len(first), b.lost)
		}
		b.rewind()
		if got := read(-1); string(got) != payload {
			t.Errorf("stopped after %d pieces: %d bytes of %d", stop, len(got), len(payload))
		}
		b.release()
		in.release()
	}
}

func TestLongBodiesAreNotHeld(t *testing.T) {
	raw := codec.AppendEnd(codec.AppendChunk(nil, make([]byte, maxReplay+1)), nil)
	var b requestBody
	b.reset(&input{conn: &stream{data: raw, step: 10_000}}, chunkedBody(t))
	total := 0
	for !b.done() {
		p, err := b.next(true)
		if err != nil {
			t.Fatal(err)
		}
		total += len(p)
	}
	if !b.lost || b.replay != nil || total != maxReplay+1 || b.size != maxReplay+1 {
		t.Errorf("lost %v, %d bytes held, %d given, %d counted", b.lost, len(b.replay), total, b.size)
	}
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

func TestRetryAfter(t *testing.T) {
	f := func(status int, value string, least, most time.Duration) {
		t.Helper()
		var r codec.Response
		if err := r.Parse([]byte(fmt.Sprintf("HTTP/1.1 %d", status) + " x\r\nRetry-After: " + value + "\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if got := retryAfter(&r); got < least || got > most {
			t.Errorf("%d %q: %v", status, value, got)
		}
	}
	f(503, "5", 5*time.Second, 5*time.Second)
	f(429, "0", 0, 0)
	f(500, "5", 0, 0)
	f(503, "-5", 0, 0)
	f(503, "soon", 0, 0)
	f(503, "99999999999999999999", 0, 0)
	f(503, time.Now().Add(time.Minute).UTC().Format(http.TimeFormat), 50*time.Second, time.Minute)
	f(503, time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat), 0, 0)
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
