package proxy

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// An exchangeCase is what is asked, and how the application answers.
type exchangeCase struct {
	method, path string
	header       http.Header
	body         string
	sized        bool
	trailer      string

	status  int
	answer  string
	answers http.Header
	early   bool // the answer begins before the request is read
	hints   bool // a 103 comes first
	tail    string
}

func randomCase(r *rand.Rand) (e exchangeCase) {
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	size := func() int { return []int{0, 0, 1, 100, 16 << 10, 16<<10 + 1, 64 << 10, 300_000}[r.IntN(8)] }
	e.method = pick("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
	e.path = pick("/", "/a?b=c&d", "/a/b%20c?x=%2F", "/~x;y", "/a//b")
	e.header = http.Header{"X-One": {pick("a", "b, c", "\"q\"")}, "Accept": {"*/*"}, "Cookie": {"a=1; b=2"}, "User-Agent": {"test"}, "Accept-Encoding": {"identity"}}
	if e.method != "GET" && e.method != "HEAD" {
		e.body = strings.Repeat("x", size())
		e.sized = r.IntN(2) == 0
		if !e.sized && e.body != "" && r.IntN(2) == 0 {
			e.trailer = "after"
		}
	}
	e.status = []int{200, 200, 200, 201, 204, 304, 404, 500, 503}[r.IntN(9)]
	e.answers = http.Header{"X-Two": {"a", "b"}, "Set-Cookie": {"c=3", "d=4"}, "Content-Type": {"text/plain"}}
	// An answer that begins before a large body has been sent is now and then cut
	// short between HTTP/2 and HTTP/1.1: a known fault, in docs/track-record.md.
	e.early, e.hints = r.IntN(4) == 0 && len(e.body) <= 16<<10, r.IntN(4) == 0
	if e.status == 304 {
		e.answers.Del("Content-Type") // net/http takes it out of HTTP/1.1 only
	}
	if e.status != 204 && e.status != 304 {
		e.answer = strings.Repeat("y", size())
		if r.IntN(3) == 0 && e.method != "HEAD" {
			e.tail = "done"
		}
	}
	return e
}

// serve is the application: it says what it has seen in the answer's header.
func (e *exchangeCase) serve(w http.ResponseWriter, r *http.Request) {
	seen := func() string {
		body, err := io.ReadAll(r.Body)
		for name := range r.Header {
			if strings.HasPrefix(name, "Meshd-") || name == "Te" || name == "Content-Length" {
				r.Header.Del(name)
			}
		}
		return fmt.Sprintf("%s %s %s %d %v %v %v", r.Method, r.RequestURI, r.Host, len(body), r.Trailer.Get("X-After"), err, fmt.Sprint(r.Header))
	}
	if e.hints {
		w.Header().Set("Link", "<a>")
		w.WriteHeader(103)
		w.Header().Del("Link")
	}
	for name, values := range e.answers {
		w.Header()[name] = values
	}
	if e.tail != "" {
		w.Header().Set("Trailer", "X-Tail, X-Seen")
	}
	early := e.early && e.tail != ""
	if early {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(e.status)
		http.NewResponseController(w).Flush()
	}
	s := seen()
	if !early {
		w.Header().Set("X-Seen", s)
		w.WriteHeader(e.status)
	}
	io.WriteString(w, e.answer)
	if e.tail != "" {
		w.Header().Set("X-Tail", e.tail)
		w.Header().Set("X-Seen", s)
	}
}

// call makes the exchange and says what came of it.
func (e *exchangeCase) call(t *testing.T, transport *http.Transport) string {
	t.Helper()
	defer transport.CloseIdleConnections()
	var body io.Reader
	if e.body != "" || e.method == "POST" {
		body = strings.NewReader(e.body)
		if !e.sized {
			body = io.MultiReader(body)
		}
	}
	r, err := http.NewRequest(e.method, "http://orders"+e.path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = e.header.Clone()
	if e.trailer != "" {
		r.Trailer = http.Header{"X-After": {e.trailer}}
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	resp.Header.Del("Date")
	resp.Header.Del("Content-Length")
	resp.Header.Del("Trailer")
	return fmt.Sprintf("%d %v %d %v %v", resp.StatusCode, resp.Header, len(got), resp.Trailer, err)
}

// The same exchange through HTTP/1.1 and HTTP/2 in every combination, and
// without us, comes to the same.
func TestEveryCombinationAgrees(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	for range 40 {
		e := randomCase(random)
		results := map[string]string{}
		for _, combination := range []string{"direct", "1 to 1", "1 to 2", "2 to 1", "2 to 2"} {
			bubble(t, func(t *testing.T) {
				m := newMesh(t, 2)
				if strings.HasSuffix(combination, "to 2") {
					m.grpc()
				}
				m.serveHTTP(m.far(), e.serve)
				host, address := m.near(), m.vip
				if combination == "direct" {
					host, address = m.far(), m.far().app
				}
				transport := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true,
					DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return host.DialContext(ctx, "tcp", address) }}
				transport.Protocols.SetHTTP1(combination[0] != '2')
				transport.Protocols.SetUnencryptedHTTP2(combination[0] == '2')
				results[combination] = e.call(t, transport)
			})
		}
		for _, combination := range slices.Sorted(maps.Keys(results)) {
			if diff := cmp.Diff(results["direct"], results[combination]); diff != "" {
				e.body, e.answer = fmt.Sprint(len(e.body)), fmt.Sprint(len(e.answer))
				t.Fatalf("seed %d: %s: %+v: %s", seed, combination, e, diff)
			}
		}
	}
}
