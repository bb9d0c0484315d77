package message

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/http2/hpack"
)

// block makes fields of lines "name: value".
func block(lines string) *hpack.Block {
	b := &hpack.Block{}
	for line := range strings.Lines(lines) {
		i := strings.Index(line[1:], ":") + 1
		value := strings.TrimPrefix(strings.TrimSuffix(line[i+1:], "\n"), " ")
		b.Fields = append(b.Fields, hpack.Field{Name: []byte(line[:i]), Value: []byte(value)})
	}
	return b
}

const (
	get  = ":method: GET\n:scheme: http\n:authority: orders\n:path: /a?b\n"
	post = ":method: POST\n:scheme: http\n:authority: orders\n:path: /\n"
)

func TestMalformedRequests(t *testing.T) {
	f := func(lines string) {
		t.Helper()
		var r exchange.Request
		var bad Malformed
		if err := TakeRequest(block(lines), &r, true); !errors.As(err, &bad) {
			t.Errorf("%q: got %v", lines, err)
		}
	}
	// RFC 9113, 8.2.1 and 8.2.2.
	f(get + "X-Upper: a")
	f(get + "x y: a")
	f(get + "x\x00: a")
	f(get + "x\xe9: a")
	f(get + "x: a\x00b")
	f(get + "x: a\rb")
	f(get + "x: a\x7fb")
	f(get + "x:  a")
	f(get + "x: a ")
	f(get + "x: a\t")
	f(get + "connection: close")
	f(get + "connection: x")
	f(get + "keep-alive: 5")
	f(get + "proxy-connection: close")
	f(get + "transfer-encoding: chunked")
	f(get + "upgrade: websocket")
	f(get + "te: gzip")
	f(get + "te: trailers, gzip")
	f(get + "content-length: a")
	f(get + "content-length: 5")
	f(post + "content-length: 0\ncontent-length: 0")
	f(post + "content-length: +5")
	// 8.3.
	f("")
	f(":method: GET")
	f(":scheme: http\n:path: /")
	f(":method: GET\n:path: /")
	f(":method: GET\n:scheme: http")
	f(":method: GET\n:scheme: http\n:path: ")
	f(":method: \n:scheme: http\n:path: /")
	f(get + ":method: GET")
	f(get + ":path: /")
	f(get + ":authority: orders")
	f(get + ":status: 200")
	f(get + ":unknown: a")
	f(get + "x: a\n:protocol: b")
	f("x: a\n" + get)
	f(get + ":protocol: websocket")
	f(get + "host: other")
	f(":method: CONNECT\n:authority: a:1\n:path: /")
	f(":method: CONNECT\n:authority: a:1\n:scheme: http")
	f(":method: CONNECT")
	f(":method: GET\n:scheme: http\n:path: /a\r\nx: y")
}

func TestRefusedRequests(t *testing.T) {
	f := func(status int, lines string) {
		t.Helper()
		var r exchange.Request
		var refused *exchange.Error
		if err := TakeRequest(block(lines), &r, true); !errors.As(err, &refused) || refused.Status != status {
			t.Errorf("%q: got %v", lines, err)
		}
	}
	f(501, ":method: CONNECT\n:authority: a:1")
	f(501, ":method: CONNECT\n:authority: a:1\n:scheme: http\n:path: /\n:protocol: h2c")
	f(417, post+"expect: something")
	f(400, strings.ReplaceAll(get, "GET", "get"))
	f(400, strings.ReplaceAll(get, "GET", "G T"))
	f(400, strings.ReplaceAll(get, "http", "ftp"))
	f(400, strings.ReplaceAll(get, "orders", "user@orders"))
	f(400, strings.ReplaceAll(get, "orders", "a b"))
	f(400, strings.ReplaceAll(get, "/a", "a"))
	f(400, strings.ReplaceAll(get, "/a?b", "*"))
	f(400, strings.ReplaceAll(get, "/a", "/a b"))
	f(400, strings.ReplaceAll(get, "/a", "/a#b"))
	f(400, strings.ReplaceAll(get, "/a", "/%zz"))
	f(400, strings.ReplaceAll(get, "/a", "http://orders/"))
	large := block(get)
	large.TooLarge = true
	var r exchange.Request
	if err := TakeRequest(large, &r, true); err != error(errTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

// lines collects fields that are written.
type written struct{ strings.Builder }

func (w *written) Field(name, value []byte, sensitive bool) {
	if sensitive {
		w.WriteByte('!')
	}
	fmt.Fprintf(w, "%s: %s\n", name, value)
}

func TestRequestsGoOn(t *testing.T) {
	f := func(lines string, end bool, want string) {
		t.Helper()
		var r exchange.Request
		if err := TakeRequest(block(lines), &r, end); err != nil {
			t.Errorf("%q: %v", lines, err)
			return
		}
		var out written
		new(Writer).Request(&out, &r, "fallback", "spiffe://mesh/svc/web")
		if rest, ok := strings.CutPrefix(want, "*"); ok {
			want = ":method: GET\n:scheme: http\n:authority: orders\n:path: /a?b\n" + rest
		}
		want += "meshd-client-id: spiffe://mesh/svc/web\n"
		if i := strings.Index(want, "|"); i >= 0 {
			tail := want[i+1 : strings.Index(want, "meshd-client-id")]
			want = want[:i] + "meshd-client-id: spiffe://mesh/svc/web\n" + tail
		}
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("%q: %s", lines, diff)
		}
	}
	f(get, true, "*")
	f(":method: GET\n:scheme: https\n:path: /a?b\nhost: orders\n", true, "*")
	f(":method: GET\n:scheme: https\n:path: /a?b\n", true, ":method: GET\n:scheme: http\n:authority: fallback\n:path: /a?b\n")
	f(get+"host: ORDERS\nte: trailers\nx: y", true, "*x: y\n|te: trailers\n")
	f(get+"authorization: secret", true, "*!authorization: secret\n")
	f(get+"cookie: a=1\nx: y\ncookie: b=2\ncookie: c=3", true, "*!cookie: a=1; b=2; c=3\nx: y\n")
	f(get+"meshd-client-id: me\nmeshd-x: y\nx-forwarded-client-cert: z\nx_y: z\nx-envoy-a: b\nl5d-x: y\ntrailer: authorization\nhttp2-settings: b", true, "*")
	f(get+"trailer: x-sum, X-After", true, "*trailer: x-sum, X-After\n")
	f(post+"content-length: 5\nexpect: 100-continue", false, ":method: POST\n:scheme: http\n:authority: orders\n:path: /\nexpect: 100-continue\n|content-length: 5\n")
	f(post, true, ":method: POST\n:scheme: http\n:authority: orders\n:path: /\n|content-length: 0\n")
	f(post, false, ":method: POST\n:scheme: http\n:authority: orders\n:path: /\n")
	f(":method: OPTIONS\n:scheme: http\n:authority: orders\n:path: *", true, ":method: OPTIONS\n:scheme: http\n:authority: orders\n:path: *\n")
}

func TestExtendedConnect(t *testing.T) {
	var r exchange.Request
	err := TakeRequest(block(":method: CONNECT\n:protocol: websocket\n:scheme: https\n:path: /chat\n:authority: orders"), &r, false)
	if err != nil || string(r.Method) != "GET" || string(r.Upgrade) != "websocket" || r.Body || string(r.Path) != "/chat" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestResponses(t *testing.T) {
	f := func(lines string, fromApplication bool, want string) {
		t.Helper()
		var r exchange.Response
		err := TakeResponse(block(lines), &r)
		if want == "" {
			if err == nil {
				t.Errorf("%q is taken", lines)
			}
			return
		}
		var out written
		new(Writer).Response(&out, &r, fromApplication)
		if diff := cmp.Diff(want, out.String()); diff != "" || err != nil {
			t.Errorf("%q: %v, %s", lines, err, diff)
		}
	}
	f(":status: 200", true, ":status: 200\n")
	f(":status: 200\ncontent-length: 7\nX: y", true, "")
	f(":status: 200\ncontent-length: 7\nx: y\nmeshd-error: denied", true, ":status: 200\nx: y\ncontent-length: 7\n")
	f(":status: 503\nmeshd-error: denied\nset-cookie: a", false, ":status: 503\nmeshd-error: denied\n!set-cookie: a\n")
	f(":status: 204\ncontent-length: 0", false, ":status: 204\n")
	f(":status: 101", true, "")
	f(":status: 99", true, "")
	f(":status: 1000", true, "")
	f(":status: abc", true, "")
	f(":status: 200\n:path: /", true, "")
	f(":status: 200\nconnection: close", true, "")
	f("x: y", true, "")
	f("", true, "")
}

func TestTrailers(t *testing.T) {
	f := func(lines, want string) {
		t.Helper()
		got, err := TakeTrailers(nil, block(lines))
		if want == "" {
			if err == nil {
				t.Errorf("%q is taken", lines)
			}
			return
		}
		var out written
		new(Writer).Trailers(&out, got)
		if diff := cmp.Diff(want, out.String()); diff != "" || err != nil {
			t.Errorf("%q: %v, %s", lines, err, diff)
		}
	}
	f("grpc-status: 0\ngrpc-message: a: b", "grpc-status: 0\ngrpc-message: a: b\n")
	f("x: y\ncontent-length: 5\nhost: a\nauthorization: b\nmeshd-x: y\nconnection: close\ntransfer-encoding: chunked\nx_y: z", "x: y\n")
	f(":status: 200", "")
	f("X: y", "")
	f("x: a\rb", "")
}

// What goes on over HTTP/2 is taken again, as the same.
func FuzzRequest(f *testing.F) {
	f.Add(get, true)
	f.Add(post+"content-length: 5\nexpect: 100-continue\ncookie: a\ncookie: b", false)
	f.Add(":method: CONNECT\n:protocol: websocket\n:scheme: https\n:path: /chat\n:authority: orders", false)
	f.Add(get+"host: ORDERS\nte: trailers\nx: y\nmeshd-x: y", true)
	f.Fuzz(func(t *testing.T, lines string, end bool) {
		if strings.Contains(lines, "!") {
			return // it marks sensitive fields here
		}
		for line := range strings.Lines(lines) {
			if len(line) < 3 || !strings.Contains(line[1:], ":") {
				return
			}
		}
		var r, again exchange.Request
		if TakeRequest(block(lines), &r, end) != nil || r.Upgrade != nil {
			return
		}
		var out, twice written
		new(Writer).Request(&out, &r, "orders", "")
		plain := strings.ReplaceAll("\n"+out.String(), "\n!", "\n")[1:]
		if err := TakeRequest(block(plain), &again, end); err != nil {
			t.Fatalf("%q goes on as %q, which is not taken: %v", lines, plain, err)
		}
		new(Writer).Request(&twice, &again, "orders", "")
		if out.String() != twice.String() {
			t.Fatalf("%q goes on as %q, and then as %q", lines, out.String(), twice.String())
		}
	})
}
