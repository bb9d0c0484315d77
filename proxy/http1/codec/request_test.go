package codec

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/meshd/meshd/proxy/exchange"
)

// parseRequest reads a head that is there as a whole.
func parseRequest(raw string) (*Request, error) {
	var s Scanner
	head, n, err := s.Request([]byte(raw))
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("incomplete")
	}
	r := &Request{}
	return r, r.Parse(head)
}

const get = "GET / HTTP/1.1\r\nHost: orders\r\n"
const post = "POST / HTTP/1.1\r\nHost: orders\r\n"

func TestRefusedRequests(t *testing.T) {
	f := func(status int, raw string) {
		t.Helper()
		_, err := parseRequest(raw)
		var e *exchange.Error
		if !errors.As(err, &e) || e.Status != status {
			t.Errorf("%.90q: got %v, want status %d", raw, err, status)
		}
	}
	// Framing.
	f(400, post+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
	f(400, post+"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n")
	f(400, post+"Content-Length: 5\r\nContent-Length: 6\r\n\r\n")
	f(400, post+"Content-Length: 5\r\nContent-Length: 5\r\n\r\n")
	for _, v := range []string{"5, 5", "5,6", "+5", "-1", "0x5", "1_0", "5;a", "5 5", "", " ", "5.0", "18446744073709551621", "9999999999999999999", "٥"} {
		f(400, post+"Content-Length: "+v+"\r\n\r\n")
	}
	f(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")
	f(400, post+"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n")
	for _, v := range []string{"gzip, chunked", "chunked, identity", "chunked, chunked", "xchunked", "\"chunked\"", "chunked;a", "identity", "", "chunked,"} {
		f(501, post+"Transfer-Encoding: "+v+"\r\n\r\n")
	}
	f(400, post+"Transfer-Encoding: \x0bchunked\r\n\r\n")
	f(400, post+"Transfer-Encoding : chunked\r\n\r\n")
	f(400, post+"Content-Length : 5\r\n\r\n")
	f(400, post+"Content-Length\t: 5\r\n\r\n")
	// Lines.
	f(400, "GET / HTTP/1.1\nHost: orders\r\n\r\n")
	f(400, get+"X: a\nY: b\r\n\r\n")
	f(400, get+"X: a\rY: b\r\n\r\n")
	f(400, get+"X: a\r\n\n")
	f(400, get+"X: a\r\r\n\r\n")
	f(400, get+" folded\r\n\r\n")
	f(400, get+"X: a\r\n\tb\r\n\r\n")
	f(400, "GET / HTTP/1.1\r\n Host: orders\r\n\r\n")
	f(400, "\r\n\r\n"+get+"\r\n")
	f(400, "\n"+get+"\r\n")
	// Names and values.
	f(400, get+": a\r\n\r\n")
	f(400, get+"X\r\n\r\n")
	f(400, get+"X Y: a\r\n\r\n")
	f(400, get+"X: a\x00b\r\n\r\n")
	f(400, get+"X: a\x01b\r\n\r\n")
	f(400, get+"X: a\x7fb\r\n\r\n")
	f(400, get+"X\x00: a\r\n\r\n")
	f(400, get+"X\xe9: a\r\n\r\n")
	f(400, get+"X(: a\r\n\r\n")
	// Host.
	f(400, "GET / HTTP/1.1\r\n\r\n")
	f(400, get+"Host: orders\r\n\r\n")
	f(400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n")
	for _, v := range []string{"", "a b", "a,b", "a/b", "a@b", "user@a", "a:x", "a:", "a:123456", "a:1:2", "[::1", "::1", "a?", "a#b", "[x]:1", "a%00"} {
		f(400, "GET / HTTP/1.1\r\nHost: "+v+"\r\n\r\n")
	}
	// Targets.
	f(400, "GET http://other/ HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET http://u:p@orders/ HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET https://orders/ HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET http:/// HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET ftp://orders/ HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET orders:80 HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET a HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET * HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET ?a HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET /#a HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET /\x00 HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET /\x7f HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET /\xc3\xa9 HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET /%zz HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET /%4 HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(501, "CONNECT orders:80 HTTP/1.1\r\nHost: orders:80\r\n\r\n")
	f(501, "CONNECT / HTTP/1.1\r\nHost: orders\r\n\r\n")
	// Request lines.
	f(400, "GET /\r\nHost: orders\r\n\r\n")
	f(400, "GET\r\nHost: orders\r\n\r\n")
	f(400, "GET  / HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET /  HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET / a HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET\t/\tHTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "GET / HTTP/1.1 \r\nHost: orders\r\n\r\n")
	f(400, " GET / HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "G(T / HTTP/1.1\r\nHost: orders\r\n\r\n")
	// Many servers take get for GET, policies do not.
	f(400, "get / HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "DELETe / HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(400, "\x16\x03\x01\x02\x00\x01")
	for _, v := range []string{"http/1.1", "HTTP/1.10", "HTTP/11", "HTTP/1,1", "HTTP/ 1.1", "HTTP/x.1", "HTTP/", "JUNK"} {
		f(400, "GET / "+v+"\r\nHost: orders\r\n\r\n")
	}
	for _, v := range []string{"HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0"} {
		f(505, "GET / "+v+"\r\nHost: orders\r\n\r\n")
	}
	f(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	// Limits.
	f(414, "GET /"+strings.Repeat("a", MaxLine)+" HTTP/1.1\r\nHost: orders\r\n\r\n")
	f(414, "GET /"+strings.Repeat("a", MaxLine+100))
	f(431, get+"X: "+strings.Repeat("a", MaxLine)+"\r\n\r\n")
	f(431, get+"X: "+strings.Repeat("a", MaxLine+100))
	f(431, get+strings.Repeat("X: a\r\n", MaxFields)+"\r\n")
	f(431, get+strings.Repeat("X: a\r\n", 10*MaxFields))
	f(431, get+strings.Repeat("X: "+strings.Repeat("a", 8000)+"\r\n", 9)+"\r\n")
	// Expectations and options.
	f(417, post+"Content-Length: 5\r\nExpect: 200-ok\r\n\r\n")
	f(417, post+"Content-Length: 5\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n\r\n")
	f(417, get+"Expect: \r\n\r\n")
	f(400, get+"Connection: a b\r\n\r\n")
	f(400, get+"Connection: "+strings.Repeat("a,", maxOptions+1)+"\r\n\r\n")
	f(400, get+"Upgrade: a\r\nUpgrade: b\r\n\r\n")
}

func TestAcceptedRequests(t *testing.T) {
	f := func(raw, want string) {
		t.Helper()
		r, err := parseRequest(raw)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			return
		}
		if got := string(AppendRequest(nil, &r.Request, Onward{Host: "orders", Chunked: r.Chunked})); got != strings.ReplaceAll(want, "\n", "\r\n") {
			t.Errorf("%q goes on as\n%s", raw, got)
		}
	}
	f(get+"\r\n", "GET / HTTP/1.1\nhost: orders\n\n")
	f("\r\n"+get+"\r\n", "GET / HTTP/1.1\nhost: orders\n\n")
	f("GET /a%20b/?x=%zz&y[]=1 HTTP/1.1\r\nhOsT:orders:80\r\nX-A:  \t a b \t\r\n\r\n",
		"GET /a%20b/?x=%zz&y[]=1 HTTP/1.1\nhost: orders:80\nX-A: a b\n\n")
	f("GET //a/../b;c\\ HTTP/1.1\r\nHost: orders\r\nEmpty:\r\nB: caf\xe9\r\n\r\n",
		"GET //a/../b;c\\ HTTP/1.1\nhost: orders\nEmpty: \nB: caf\xe9\n\n")
	// Targets.
	f("GET http://Orders:80/a?b HTTP/1.1\r\nHost: orders:80\r\n\r\n", "GET /a?b HTTP/1.1\nhost: Orders:80\n\n")
	f("GET http://orders?b HTTP/1.1\r\nHost: orders\r\n\r\n", "GET /?b HTTP/1.1\nhost: orders\n\n")
	f("GET HTTP://orders HTTP/1.1\r\nHost: orders\r\n\r\n", "GET / HTTP/1.1\nhost: orders\n\n")
	f("OPTIONS * HTTP/1.1\r\nHost: orders\r\n\r\n", "OPTIONS * HTTP/1.1\nhost: orders\n\n")
	f("OPTIONS http://orders HTTP/1.1\r\nHost: orders\r\n\r\n", "OPTIONS * HTTP/1.1\nhost: orders\n\n")
	f("GET / HTTP/1.1\r\nHost: [fd77::1]:80\r\n\r\n", "GET / HTTP/1.1\nhost: [fd77::1]:80\n\n")
	// HTTP/1.0.
	f("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\nhost: orders\n\n")
	f("GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive, upgrade\r\nUpgrade: websocket\r\n\r\n", "GET / HTTP/1.1\nhost: x\n\n")
	f("POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", "POST / HTTP/1.1\nhost: orders\ncontent-length: 5\n\n")
	// Framing is written anew.
	f(post+"Content-Length: 0005\r\n\r\n", "POST / HTTP/1.1\nhost: orders\ncontent-length: 5\n\n")
	f(post+"Content-Length: 0\r\n\r\n", "POST / HTTP/1.1\nhost: orders\ncontent-length: 0\n\n")
	f(post+"TRANSFER-ENCODING: Chunked\r\n\r\n", "POST / HTTP/1.1\nhost: orders\ntransfer-encoding: chunked\n\n")
	f(post+"Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n", "POST / HTTP/1.1\nhost: orders\nExpect: 100-Continue\ncontent-length: 5\n\n")
	f(post+"Connection: expect\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "POST / HTTP/1.1\nhost: orders\nExpect: 100-continue\ncontent-length: 5\n\n")
	f(get+"Expect: 100-continue\r\n\r\n", "GET / HTTP/1.1\nhost: orders\n\n")
	// What is about this hop stays here.
	f(get+"Connection: close, X-Hop ,, x-b\r\nX-Hop: 1\r\nX-B: 2\r\nX-C: 3\r\nKeep-Alive: 5\r\nProxy-Connection: a\r\nTrailer: X\r\nTE: gzip\r\nHTTP2-Settings: a\r\n\r\n",
		"GET / HTTP/1.1\nhost: orders\nX-C: 3\n\n")
	f(get+"TE: gzip, Trailers\r\nConnection: TE\r\n\r\n", "GET / HTTP/1.1\nhost: orders\nte: trailers\nconnection: te\n\n")
	f(post+"Connection: host, content-length, authorization, x-forwarded-for, transfer-encoding\r\nContent-Length: 3\r\nAuthorization: a\r\nX-Forwarded-For: b\r\n\r\n",
		"POST / HTTP/1.1\nhost: orders\nAuthorization: a\nX-Forwarded-For: b\ncontent-length: 3\n\n")
	f(get+"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n",
		"GET / HTTP/1.1\nhost: orders\nSec-WebSocket-Key: k\nconnection: upgrade\nupgrade: websocket\n\n")
	for _, v := range []string{"h2c", "websocket, h2c", "H2C", "HTTP/2.0", "TLS/1.0", ""} {
		f(get+"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: "+v+"\r\nHTTP2-Settings: a\r\n\r\n", "GET / HTTP/1.1\nhost: orders\n\n")
	}
	f(get+"Upgrade: websocket\r\n\r\n", "GET / HTTP/1.1\nhost: orders\n\n")
	// Nobody but meshd speaks of identities.
	f(get+"meshd-client-id: spiffe://mesh/svc/admin\r\nMeshd-Anything: 1\r\nX-Forwarded-Client-Cert: a\r\nX-Envoy-A: b\r\nl5d-client-id: c\r\n\r\n", "GET / HTTP/1.1\nhost: orders\n\n")
	f(get+"meshd_client_id: a\r\nMESHD_Client-ID: b\r\nx_forwarded_client_cert: c\r\nTransfer_Encoding: chunked\r\nContent_Length: 5\r\nX_Any: d\r\n\r\n", "GET / HTTP/1.1\nhost: orders\n\n")
	f(get+"meshd-client-id: a\r\nConnection: meshd-client-id\r\n\r\n", "GET / HTTP/1.1\nhost: orders\n\n")
}

func TestClientID(t *testing.T) {
	r, err := parseRequest(get + "Meshd-Client-Id: spiffe://mesh/svc/admin\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	got := string(AppendRequest(nil, &r.Request, Onward{ClientID: "spiffe://mesh/svc/web", Chunked: r.Chunked}))
	if want := "GET / HTTP/1.1\r\nhost: orders\r\nmeshd-client-id: spiffe://mesh/svc/web\r\n\r\n"; got != want {
		t.Errorf("got %q", got)
	}
}

func TestPersists(t *testing.T) {
	f := func(raw string, want bool) {
		t.Helper()
		r, err := parseRequest(raw)
		if err != nil || r.Persists() != want {
			t.Errorf("%q: %v", raw, err)
		}
	}
	f(get+"\r\n", true)
	f(get+"Connection: a, CLOSE\r\n\r\n", false)
	f(get+"Connection: keep-alive\r\nConnection: close\r\n\r\n", false)
	f("GET / HTTP/1.0\r\n\r\n", false)
	f("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true)
}

func TestFields(t *testing.T) {
	r, err := parseRequest(get + "X-A: 1\r\nx-a: 2\r\nConnection: x-b\r\nX-B: 3\r\nMeshd-C: 4\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	f := func(name, value string, want bool) {
		t.Helper()
		if r.Has(name, value) != want {
			t.Errorf("%s: %s", name, value)
		}
	}
	f("x-a", "1", true)
	f("x-a", "2", true)
	f("x-a", "3", false)
	f("x-b", "3", false)
	f("meshd-c", "4", false)
}

// However a head is split, it is found at the same place and read once.
func TestScannerTakesAnySplit(t *testing.T) {
	raw := []byte("\r\n" + get + "X: y\r\n\r\nrest")
	for step := 1; step <= len(raw); step++ {
		var s Scanner
		for end := step; ; end += step {
			head, n, err := s.Request(raw[:min(end, len(raw))])
			if err != nil {
				t.Fatalf("in steps of %d: %v", step, err)
			}
			if n > 0 {
				if n != len(raw)-4 || !bytes.Equal(head, raw[2:n]) {
					t.Fatalf("in steps of %d: head is %q", step, head)
				}
				break
			}
			if end >= len(raw) {
				t.Fatalf("in steps of %d: no head", step)
			}
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	raw := []byte(realRequest)
	var r Request
	out := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		var s Scanner
		head, _, err := s.Request(raw)
		if err != nil || r.Parse(head) != nil {
			t.Fatal("refused")
		}
		AppendRequest(out, &r.Request, Onward{ClientID: "spiffe://mesh/svc/web", Chunked: r.Chunked})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

const realRequest = "GET /api/v2/orders?customer=4711&limit=50 HTTP/1.1\r\n" +
	"Host: orders.mesh\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: application/json, text/plain, */*\r\nAccept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n" +
	"Authorization: Bearer eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0\r\n" +
	"Connection: keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n" +
	"X-Request-Id: 7f3b8c1e-5d2a-4e6f-9b0c-1a2b3c4d5e6f\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n"

func BenchmarkRequest(b *testing.B) {
	raw := []byte(realRequest)
	var r Request
	out := make([]byte, 0, 4096)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		var s Scanner
		head, _, err := s.Request(raw)
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Parse(head); err != nil {
			b.Fatal(err)
		}
		AppendRequest(out, &r.Request, Onward{Chunked: r.Chunked})
	}
}

// What arrives byte by byte costs no more than what it costs to send.
func BenchmarkScannerByteByByte(b *testing.B) {
	raw := []byte(get)
	for i := 0; len(raw) < MaxHead-2000; i++ {
		raw = fmt.Appendf(raw, "X-%d: %s\r\n", i, strings.Repeat("a", 1000))
	}
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		var s Scanner
		for i := range raw {
			if _, _, err := s.Request(raw[:i]); err != nil {
				b.Fatal(err)
			}
		}
	}
}
