package codec

import (
	"errors"
	"strings"
	"testing"

	"github.com/meshd/meshd/proxy/exchange"
)

func parseResponse(raw string) (*Response, error) {
	var s Scanner
	head, n, err := s.Response([]byte(raw))
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("incomplete")
	}
	r := &Response{}
	return r, r.Parse(head)
}

func TestRefusedResponses(t *testing.T) {
	f := func(raw string) {
		t.Helper()
		_, err := parseResponse(raw)
		var e *exchange.Error
		if !errors.As(err, &e) {
			t.Errorf("%.90q: got %v", raw, err)
		}
	}
	const ok = "HTTP/1.1 200 OK\r\n"
	f(ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
	f(ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n")
	f(ok + "Content-Length: -1\r\n\r\n")
	f(ok + "Content-Length: +5\r\n\r\n")
	f(ok + "Transfer-Encoding: gzip, chunked\r\n\r\n")
	f(ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n")
	f("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	f(ok + "X : a\r\n\r\n")
	f(ok + "X: a\nSet-Cookie: b\r\n\r\n")
	f(ok + "X: a\rSet-Cookie: b\r\n\r\n")
	f(ok + "X: a\x00\r\n\r\n")
	f(ok + "X: a\r\n b\r\n\r\n")
	f(ok + strings.Repeat("X: a\r\n", MaxFields+1) + "\r\n")
	f(ok + "X: " + strings.Repeat("a", 2<<20))
	for _, line := range []string{
		"HTTP/1.1 099 x", "HTTP/1.1 1000 x", "HTTP/1.1 abc x", "HTTP/1.1 20 x", "HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1  200 OK",
		"HTTP/1.1 200OK", "HTTP/2.0 200 OK", "HTTP/1.2 200 OK", "HTTP/0.9 200 OK", "http/1.1 200 OK", "HTTP/1.1 +20 OK", "HTTP/1.1 200 O\x00K", "<html>", "",
	} {
		f(line + "\r\n\r\n")
	}
	f("\r\n" + ok + "\r\n")
	f("hello")
}

func TestAcceptedResponses(t *testing.T) {
	f := func(raw string, b Back, want string) {
		t.Helper()
		r, err := parseResponse(raw)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			return
		}
		if got := string(AppendResponse(nil, &r.Response, b)); got != strings.ReplaceAll(want, "\n", "\r\n") {
			t.Errorf("%q goes back as\n%s", raw, got)
		}
	}
	f("HTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: 5\r\nConnection: x-a\r\nX-A: 1\r\nx_b: 2\r\n\r\n", Back{Framing: Sized},
		"HTTP/1.1 200 OK\nServer: a\nx_b: 2\ncontent-length: 5\n\n")
	f("HTTP/1.0 200 OK\r\nKeep-Alive: 5\r\n\r\n", Back{Framing: Chunked}, "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n")
	f("HTTP/1.0 200 OK\r\n\r\n", Back{Framing: UntilClose, Close: true}, "HTTP/1.1 200 OK\nconnection: close\n\n")
	f("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Back{Framing: Sized, KeepAlive: true}, "HTTP/1.1 200 \nconnection: keep-alive\ncontent-length: 0\n\n")
	f("HTTP/1.1 404 Nicht gefunden \xfc\r\nContent-Length: 0\r\n\r\n", Back{Framing: Sized}, "HTTP/1.1 404 Nicht gefunden \xfc\ncontent-length: 0\n\n")
	f("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Back{}, "HTTP/1.1 204 No Content\n\n")
	f("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: a\r\n\r\n", Back{}, "HTTP/1.1 304 Not Modified\nETag: a\ncontent-length: 5\n\n")
	f("HTTP/1.1 103 Early Hints\r\nLink: a\r\nTransfer-Encoding: chunked\r\n\r\n", Back{}, "HTTP/1.1 103 Early Hints\nLink: a\n\n")
	f("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\n\r\n", Back{},
		"HTTP/1.1 101 Switching Protocols\nSec-WebSocket-Accept: x\nconnection: upgrade\nupgrade: WebSocket\n\n")
	// Applications do not speak for meshd; other agents do.
	said := "HTTP/1.1 503 x\r\nmeshd-error: denied\r\nContent-Length: 0\r\n\r\n"
	f(said, Back{Framing: Sized, FromApplication: true}, "HTTP/1.1 503 x\ncontent-length: 0\n\n")
	f(said, Back{Framing: Sized}, "HTTP/1.1 503 x\nmeshd-error: denied\ncontent-length: 0\n\n")
}

func TestResponseBodies(t *testing.T) {
	f := func(method, raw string, framing Framing, done bool) {
		t.Helper()
		r, err := parseResponse(raw)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			return
		}
		if b := r.Decoder([]byte(method)); b.Framing != framing || b.Done() != done {
			t.Errorf("%s %q: framing %d, done %v", method, raw, b.Framing, b.Done())
		}
	}
	f("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Sized, false)
	f("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Sized, true)
	f("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Chunked, false)
	f("GET", "HTTP/1.1 200 OK\r\n\r\n", UntilClose, false)
	f("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", NoBody, true)
	f("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", NoBody, true)
	f("GET", "HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n", NoBody, true)
	f("GET", "HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\n", NoBody, true)
	f("GET", "HTTP/1.1 100 x\r\nContent-Length: 5\r\n\r\n", NoBody, true)
}

func TestUpgradeIsAccepted(t *testing.T) {
	f := func(raw, asked string, want bool) {
		t.Helper()
		r, err := parseResponse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if r.Accepts([]byte(asked)) != want {
			t.Errorf("%q for %q", raw, asked)
		}
	}
	const yes = "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
	f(yes, "WebSocket", true)
	f(yes, "foo, websocket", true)
	f(yes, "foo", false)
	f(yes, "", false)
	f("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", "websocket", false)
	f("HTTP/1.1 101 x\r\nConnection: upgrade\r\n\r\n", "websocket", false)
	f("HTTP/1.1 200 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "websocket", false)
}

func BenchmarkResponse(b *testing.B) {
	raw := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 03:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 1024\r\nConnection: keep-alive\r\nETag: \"abc\"\r\n\r\n")
	var r Response
	out := make([]byte, 0, 4096)
	for b.Loop() {
		var s Scanner
		head, _, err := s.Response(raw)
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Parse(head); err != nil {
			b.Fatal(err)
		}
		AppendResponse(out, &r.Response, Back{Framing: Sized})
	}
}
