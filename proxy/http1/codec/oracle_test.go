package codec

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshd/meshd/proxy/exchange"
)

// message takes a whole request apart; ok is false if it is refused or cut short.
func message(raw []byte) (r *Request, body, rest, trailers []byte, ok bool) {
	var s Scanner
	head, n, err := s.Request(raw)
	if err != nil || n == 0 {
		return nil, nil, nil, nil, false
	}
	r = &Request{}
	if r.Parse(head) != nil {
		return nil, nil, nil, nil, false
	}
	b := r.Decoder()
	body, rest, err = decode(&b, raw[n:], len(raw)+1)
	return r, body, rest, b.Trailers(), err == nil
}

// onward is the message as it goes on.
func onward(r *Request, body, trailers []byte) []byte {
	out := AppendRequest(nil, &r.Request, Onward{Host: "orders", Chunked: r.Chunked})
	if r.Chunked {
		return AppendEnd(AppendChunk(out, body), trailers)
	}
	return append(out, body...)
}

// Whatever we accept, net/http accepts too, and it understands the same by it,
// before and after it has passed here.
func FuzzRequestAgainstNetHTTP(f *testing.F) {
	for _, s := range []string{
		get + "\r\n", realRequest, post + "Content-Length: 5\r\n\r\nhello", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\nGET",
		"GET http://orders/a?b HTTP/1.1\r\nHost: orders\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET / HTTP/1.0\r\n\r\n",
		get + "Connection: close, x-a\r\nX-A: b\r\nX_B: c\r\n\r\n", "\r\n" + get + "\r\n", post + "Expect: 100-continue\r\nContent-Length: 1\r\n\r\na",
		get + "Connection: upgrade\r\nUpgrade: websocket\r\nTE: trailers\r\n\r\n", "GET /%41/../;\\?%zz HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, body, rest, trailers, ok := message(raw)
		if !ok {
			return
		}
		before := readRequest(t, bytes.TrimPrefix(raw, []byte("\r\n")))
		if before.body != string(body) || before.rest != string(rest) {
			t.Fatalf("%q: body %q and rest %q, net/http has %q and %q", raw, body, rest, before.body, before.rest)
		}
		out := onward(r, body, trailers)
		after := readRequest(t, out)
		if after.rest != "" {
			t.Fatalf("%q goes on as %q, of which %q is left over", raw, out, after.rest)
		}
		compare(t, raw, before, after)
		again, _, _, _, ok := message(out)
		if !ok || !bytes.Equal(onward(again, body, trailers), out) {
			t.Fatalf("%q goes on as %q, which is not taken or goes on as something else", raw, out)
		}
	})
}

type read struct {
	*http.Request
	body, rest string
}

func readRequest(t *testing.T, raw []byte) read {
	t.Helper()
	buf := bufio.NewReader(bytes.NewReader(raw))
	r, err := http.ReadRequest(buf)
	if err != nil {
		t.Fatalf("net/http refuses %q: %v", raw, err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("net/http refuses the body of %q: %v", raw, err)
	}
	rest, _ := io.ReadAll(buf)
	return read{r, string(body), string(rest)}
}

func compare(t *testing.T, raw []byte, before, after read) {
	t.Helper()
	host := before.Host
	if host == "" {
		host = "orders"
	}
	path := before.URL.EscapedPath()
	if path == "" {
		path = "/"
		if before.Method == "OPTIONS" {
			path = "*"
		}
	}
	if before.Method != after.Method || host != after.Host || path != after.URL.EscapedPath() || before.URL.RawQuery != after.URL.RawQuery || before.body != after.body {
		t.Fatalf("%q: %s %s%s became %s %s%s", raw, before.Method, host, before.URL, after.Method, after.Host, after.URL)
	}
	want, got := before.Header.Clone(), after.Header.Clone()
	forget(want, before.Header)
	forget(got, after.Header)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%q: %s", raw, diff)
	}
}

// forget removes what is not meant to arrive: about this hop, or in the name of
// meshd.
func forget(h, original http.Header) {
	options := strings.Split(strings.Join(original.Values("Connection"), ","), ",")
	for _, name := range slices.Collect(maps.Keys(h)) {
		lower := strings.ToLower(name)
		named := slices.ContainsFunc(options, func(o string) bool { return strings.EqualFold(strings.Trim(o, " \t"), name) })
		protected := lower == "authorization" || strings.HasPrefix(lower, "x-forwarded-") || lower == "host" || lower == "content-length"
		if named && !protected || strings.Contains(lower, "_") || strings.HasPrefix(lower, "meshd-") || exchange.Classify([]byte(lower), true) == exchange.Reserved ||
			slices.Contains([]string{"connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "http2-settings", "expect", "content-length"}, lower) {
			h.Del(name)
			delete(h, name)
		}
	}
}

// The same for responses.
func FuzzResponseAgainstNetHTTP(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nuntil the end", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 999\r\nmeshd-error: a\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s Scanner
		head, n, err := s.Response(raw)
		var r Response
		if err != nil || n == 0 || r.Parse(head) != nil || r.Status < 200 {
			return
		}
		b := r.Decoder([]byte("GET"))
		body, _, err := decode(&b, raw[n:], len(raw)+1)
		if err != nil {
			return
		}
		back := Back{Framing: b.Framing}
		out := AppendResponse(nil, &r.Response, back)
		if b.Framing == Chunked {
			out = AppendEnd(AppendChunk(out, body), b.Trailers())
		} else {
			out = append(out, body...)
		}
		for _, version := range [][]byte{raw, out} {
			resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(version)), nil)
			if err != nil {
				t.Fatalf("net/http refuses %q: %v", version, err)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != string(body) || resp.StatusCode != r.Status {
				t.Fatalf("%q: %d %q, net/http has %d %q, %v", version, r.Status, body, resp.StatusCode, got, err)
			}
		}
	})
}

// A grammar of good and evil parts, put together at random, goes further than
// bytes at random.
var (
	startLines = []string{
		"GET / HTTP/1.1\r\n", "POST /a?b=c HTTP/1.1\r\n", "GET /%41%2e/ HTTP/1.1\r\n", "GET http://orders/x HTTP/1.1\r\n", "GET http://orders HTTP/1.1\r\n",
		"OPTIONS * HTTP/1.1\r\n", "POST / HTTP/1.0\r\n", "PUT //x//..;a HTTP/1.1\r\n", "\r\nGET / HTTP/1.1\r\n", "GET  / HTTP/1.1\r\n", "GET / HTTP/1.1\n", "get / HTTP/1.1\r\n",
	}
	hostLines = []string{"Host: orders\r\n", "host:orders:80\r\n", "Host: orders\r\nHost: orders\r\n", "", "Host: \r\n", "Host: [::1]\r\n", "Host: ORDERS\r\n"}
	lines     = []string{
		"Content-Length: 5\r\n", "Content-Length: 0\r\n", "content-length: 05\r\n", "Content-Length: 5, 5\r\n", "Content-Length: +5\r\n", "Content-Length:\r\n",
		"Transfer-Encoding: chunked\r\n", "transfer-encoding:\tCHUNKED\r\n", "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding : chunked\r\n", "Transfer_Encoding: chunked\r\n",
		"Connection: close\r\n", "Connection: keep-alive, X-A\r\n", "Connection: x-a,Content-Length\r\n", "Connection: upgrade\r\n", "Upgrade: websocket\r\n", "Upgrade: h2c\r\n",
		"X-A: 1\r\n", "x-a:2 \r\n", "X_A: 3\r\n", "X-B:\r\n", "Meshd-Client-Id: a\r\n", "TE: trailers\r\n", "Trailer: X\r\n", "Expect: 100-continue\r\n",
		" folded\r\n", "X-C: a\rb\r\n", "X-C: a\nb\r\n", "X-C: \x00\r\n", "X-C: \xff\r\n", ": a\r\n", "nocolon\r\n", "Authorization: x\r\n", "Cookie: a=b; c\r\n",
	}
	bodies = []string{"", "hello", "hello\r\nGET /evil HTTP/1.1\r\n", "5\r\nhello\r\n0\r\n\r\n", "5;x=y\r\nhello\r\n0\r\nX-T: 1\r\nContent-Length: 9\r\n\r\nGET", "5\nhello\n0\n\n", "0x5\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "0\r\n\r\n"}
)

func TestRandomRequestsAgainstNetHTTP(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	accepted := 0
	for range 60_000 {
		raw := pick(startLines) + pick(hostLines)
		for range random.IntN(4) {
			raw += pick(lines)
		}
		raw += "\r\n" + pick(bodies)
		r, body, rest, trailers, ok := message([]byte(raw))
		if !ok {
			continue
		}
		accepted++
		before := readRequest(t, []byte(strings.TrimPrefix(raw, "\r\n")))
		after := readRequest(t, onward(r, body, trailers))
		if before.body != string(body) || before.rest != string(rest) || after.rest != "" {
			t.Fatalf("%q: body %q and rest %q, net/http has %q and %q, and %q after it", raw, body, rest, before.body, before.rest, after.rest)
		}
		compare(t, []byte(raw), before, after)
	}
	if accepted < 5_000 {
		t.Errorf("only %d were accepted: the test shows little", accepted)
	}
}
