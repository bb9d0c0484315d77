package codec

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/meshd/meshd/proxy/exchange"
)

// decode feeds a body in pieces, as a driver does: what is not taken is given
// again with more behind it.
func decode(b *Body, raw []byte, step int) (payload, rest []byte, err error) {
	end := 0
	for !b.Done() {
		p, n, err := b.Next(raw[:end])
		if err != nil {
			return payload, raw, err
		}
		payload = append(payload, p...)
		raw, end = raw[n:], end-n
		if len(p) > 0 || b.Done() {
			continue
		}
		if end == len(raw) {
			return payload, raw, b.Close()
		}
		end = min(end+step, len(raw))
	}
	return payload, raw, nil
}

func chunked() *Body { return &Body{Framing: Chunked} }

func TestChunkedBodies(t *testing.T) {
	f := func(raw, payload, trailers, rest string) {
		t.Helper()
		for step := 1; step <= len(raw)+1; step++ {
			b := chunked()
			got, left, err := decode(b, []byte(raw), step)
			// Only bytes that were given before the end was seen can be left.
			if err != nil || string(got) != payload || string(b.Trailers()) != trailers || !strings.HasSuffix(raw, string(left)) || len(left) != len(rest) {
				t.Errorf("%q in steps of %d: %q, %q, %q, %v", raw, step, got, b.Trailers(), left, err)
				return
			}
		}
	}
	f("0\r\n\r\n", "", "", "")
	f("5\r\nhello\r\n0\r\n\r\nGET /", "hello", "", "GET /")
	f("1\r\na\r\n00A\r\n0123456789\r\n0\r\n\r\n", "a0123456789", "", "")
	f("a;ext=\"v; x\"\r\n0123456789\r\n0;last\r\n\r\n", "0123456789", "", "")
	f("0\r\nX-Sum: abc \r\nGrpc-Status:0\r\n\r\n", "", "X-Sum: abc\r\nGrpc-Status: 0\r\n", "")
	f("0\r\nContent-Length: 5\r\nHost: x\r\nTransfer-Encoding: chunked\r\nAuthorization: a\r\nmeshd-client-id: b\r\nMESHD_client_id: c\r\nSet-Cookie: d\r\nX: e\r\nConnection: f\r\n\r\n",
		"", "X: e\r\n", "")
}

func TestRefusedChunks(t *testing.T) {
	f := func(raw string) {
		t.Helper()
		for _, step := range []int{1, len(raw)} {
			_, _, err := decode(chunked(), []byte(raw), step)
			var e *exchange.Error
			if !errors.As(err, &e) {
				t.Errorf("%.60q in steps of %d: %v", raw, step, err)
			}
		}
	}
	for _, size := range []string{"", "0x5", "-5", "+5", " 5", "5 ", "5 zz", "g", "5,", "5;", "5; a", "5;\x00a", "1000000000000000", "FFFFFFFFFFFFFFFF", "00000000000000000000000000000005", "\"5\"", "5_0"} {
		f(size + "\r\nhello\r\n0\r\n\r\n")
	}
	f("5\nhello\r\n0\r\n\r\n")
	f("5\rhello\r\n0\r\n\r\n")
	f("5\r\r\nhello\r\n0\r\n\r\n")
	f("5\r\nhelloX\r\n0\r\n\r\n")
	f("5\r\nhello\n0\r\n\r\n")
	f("5\r\nhello0\r\n\r\n")
	f("5\r\nhello\rX")
	f("0\r\n\n")
	f("0\r\nX: a\n\r\n")
	f("0\r\nX : a\r\n\r\n")
	f("0\r\n X: a\r\n\r\n")
	f("0\r\nX\r\n\r\n")
	f("0\r\nX: \x00\r\n\r\n")
	f("5;" + strings.Repeat("a", 100<<10))
	f("5;" + strings.Repeat("a", 300) + "\r\nhello\r\n")
	f(strings.Repeat("1;aaaaaaaaaaaaaaa\r\nx\r\n", 20))
	f("0\r\nX: " + strings.Repeat("a", 100<<10))
	f("0\r\n" + strings.Repeat("X: "+strings.Repeat("a", 1000)+"\r\n", 10))
	f("0\r\n" + strings.Repeat("X:\r\n", 101))
}

func TestBodiesCutShort(t *testing.T) {
	f := func(b Body, raw string, want error) {
		t.Helper()
		if _, _, err := decode(&b, []byte(raw), 3); err != want {
			t.Errorf("%q: %v", raw, err)
		}
	}
	f(Body{Framing: Sized, left: 5}, "hell", io.ErrUnexpectedEOF)
	f(Body{Framing: Chunked}, "5\r\nhell", io.ErrUnexpectedEOF)
	f(Body{Framing: Chunked}, "5\r\nhello\r\n", io.ErrUnexpectedEOF)
	f(Body{Framing: Chunked}, "5\r\nhello\r\n0\r\n", io.ErrUnexpectedEOF)
	f(Body{Framing: UntilClose}, "any", nil)
}

func TestSizedBodyLeavesTheRest(t *testing.T) {
	b := Body{Framing: Sized, left: 5}
	payload, rest, err := decode(&b, []byte("helloGET"), 100)
	if err != nil || string(payload) != "hello" || string(rest) != "GET" {
		t.Errorf("%q, %q, %v", payload, rest, err)
	}
}

// What is written as chunks is read back, however it is split.
func FuzzChunkedRoundTrip(f *testing.F) {
	f.Add([]byte("hello, world"), 3, 2)
	f.Fuzz(func(t *testing.T, data []byte, size, step int) {
		size, step = max(1, min(size, 1000)), max(1, min(step, 1000))
		var raw []byte
		for p := data; len(p) > 0; p = p[min(size, len(p)):] {
			raw = AppendChunk(raw, p[:min(size, len(p))])
		}
		raw = AppendEnd(raw, []byte("X: y\r\n"))
		b := chunked()
		got, rest, err := decode(b, append(raw, "next"...), step)
		if err != nil || !bytes.Equal(got, data) || string(b.Trailers()) != "X: y\r\n" || !strings.HasPrefix("next", string(rest)) {
			t.Fatalf("%q in chunks of %d, steps of %d: %q, %q, %v", data, size, step, got, rest, err)
		}
	})
}

// The same bytes mean the same in whatever pieces they come.
func FuzzChunkedSplit(f *testing.F) {
	for _, s := range []string{"5\r\nhello\r\n0\r\n\r\n", "0\r\nA: b\r\n\r\nx", "5;a\r\nhello\r\n0\r\n\r\n", "5\nx", "zz"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		whole := chunked()
		want, rest, wantErr := decode(whole, raw, len(raw)+1)
		for _, step := range []int{1, 2, 7} {
			b := chunked()
			got, left, err := decode(b, raw, step)
			if (err == nil) != (wantErr == nil) || err == nil && (!bytes.Equal(got, want) || len(left) != len(rest) || !bytes.Equal(b.Trailers(), whole.Trailers())) {
				t.Fatalf("%q in steps of %d: %q, %q, %v; as a whole %q, %q, %v", raw, step, got, left, err, want, rest, wantErr)
			}
		}
	})
}

func TestChunksAllocateNothing(t *testing.T) {
	raw := []byte("400\r\n" + strings.Repeat("a", 1024) + "\r\n0\r\n\r\n")
	out := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() {
		b := Body{Framing: Chunked}
		for p := raw; !b.Done(); {
			payload, n, err := b.Next(p)
			if err != nil {
				t.Fatal(err)
			}
			out = AppendChunk(out[:0], payload)
			p = p[n:]
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
