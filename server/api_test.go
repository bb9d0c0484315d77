package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/meshtest"
	"github.com/meshd/meshd/server/httpapi"
)

// A web speaks the API as JSON with one server.
type web struct {
	t      *testing.T
	base   string
	header http.Header
	client *http.Client
	asked  map[string]bool // endpoints
}

// webOver makes a web of connections.
func webOver(t *testing.T, base, token string, dial func(ctx context.Context) (net.Conn, error)) *web {
	d := func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	w := &web{t: t, base: base, header: http.Header{}, asked: map[string]bool{}, client: &http.Client{
		Transport: &http.Transport{DialContext: d, DialTLSContext: d, DisableKeepAlives: true},
	}}
	if token != "" {
		w.header.Set("Authorization", "Bearer "+token)
	}
	return w
}

// remote speaks from another host, as curl does.
func remote(t *testing.T, from *memnet.Host, s *meshtest.Server, token string) *web {
	return webOver(t, "https://"+s.Address(), token, func(ctx context.Context) (net.Conn, error) {
		raw, err := from.DialContext(ctx, "tcp", s.Address())
		if err != nil {
			return nil, err
		}
		c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
		return c, c.HandshakeContext(ctx)
	})
}

// local speaks over the server's socket.
func local(t *testing.T, s *meshtest.Server, uid uint32) *web {
	return webOver(t, "http://meshd", "", func(ctx context.Context) (net.Conn, error) {
		return s.Host.As(uid).DialContext(ctx, "unix", s.Config().Socket)
	})
}

// An answer is what came back.
type answer struct {
	*http.Response
	body string
}

// do makes a request; header are names and values.
func (w *web) do(verb, path, body string, header ...string) *answer {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), verb, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body == "" {
		r.Body, r.ContentLength = nil, 0
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, values := range w.header {
		r.Header[name] = values
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := w.client.Do(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", verb, path, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", verb, path, err)
	}
	return &answer{response, string(data)}
}

// wants checks the status of an answer and what is in it.
func (w *web) wants(status int, parts []string, verb, path, body string, header ...string) *answer {
	w.t.Helper()
	a := w.do(verb, path, body, header...)
	if a.StatusCode != status {
		w.t.Errorf("%s %s gave %s, want %d:\n%s", verb, path, a.Status, status, a.body)
	}
	for _, part := range parts {
		if !strings.Contains(a.body, part) {
			w.t.Errorf("%s %s: %q is missing from\n%s", verb, path, part, a.body)
		}
	}
	if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("X-Content-Type-Options") != "nosniff" {
		w.t.Errorf("%s %s: headers %v", verb, path, a.Header)
	}
	return a
}

const routeOrders = `{"kind": "route", "name": "orders", "service": "orders", "rules": [{"split": [{"to": "orders@v2"}]}]}`

// Every endpoint does what its method does.
func TestTheAPIAsJSON(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		mustRegister(t, m.JoinFakeAgent("h1").Connect(m.Leader()), 1, instance("web", 80))
		admin, _ := accessToken(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_ADMIN})
		w := remote(t, m.Host("laptop"), m.Follower(), admin)
		asked := map[string]bool{}
		f := func(status int, endpoint, path, body string, parts ...string) *answer {
			t.Helper()
			verb, pattern, _ := strings.Cut(endpoint, " ")
			if path == "" {
				path = pattern
			}
			asked[endpoint] = true
			return w.wants(status, parts, verb, path, body)
		}
		f(200, "GET /v1/status", "", "", `"nodes": 1`, `"silent_servers": []`)
		f(200, "GET /v1/members", "/v1/members?state=alive&prefix=h&stale=true", "", `"name": "h1"`, `"voter": true`)
		f(200, "GET /v1/members", "/v1/members?state=lost", "", `"nodes": []`)
		f(200, "GET /v1/services", "", "", `"name": "web"`)
		f(200, "GET /v1/services", "/v1/services?health=critical", "", `"services": []`)
		f(200, "GET /v1/services/{name}", "/v1/services/web", "", `"node": "h1"`)
		f(404, "GET /v1/services/{name}", "/v1/services/absent", "", `there is no service \"absent\"`)

		f(400, "POST /v1/apply", "", "["+routeOrders+"]", `route \"orders\"`, `"path": "rules[0].split[0].to"`, `"kind": "route"`, `"name": "orders"`, `could define the subset \"v2\"`)
		f(200, "POST /v1/apply", "/v1/apply?dry_run=true", `[{"kind": "service", "name": "orders", "subsets": {"v2": {"meta.version": "2"}}}, `+routeOrders+`]`, `"action": "created"`)
		f(404, "GET /v1/resources/{kind}/{name}", "/v1/resources/route/orders", "", `there is no route \"orders\"`)
		f(200, "POST /v1/apply", "", `[{"kind": "service", "name": "orders", "subsets": {"v2": {"meta.version": "2"}}}, `+routeOrders+`]`, `"action": "created"`)
		f(201, "PUT /v1/resources/{kind}/{name}", "/v1/resources/policy/orders", `{"kind": "policy", "name": "orders", "service": "orders"}`, `"created"`)
		f(200, "GET /v1/resources", "", "", `"kind": "route"`, `"kind": "policy"`, `"next": ""`)
		f(200, "GET /v1/resources/{kind}", "/v1/resources/route?service=orders", "", `"to": "orders@v2"`)
		f(400, "GET /v1/resources/{kind}", "/v1/resources/rout", "", "there is no kind of resource")
		f(400, "DELETE /v1/resources/{kind}/{name}", "/v1/resources/service/orders", "", `service \"orders\" defines the subset \"v2\", which route \"orders\" sends calls to`)
		f(200, "DELETE /v1/resources/{kind}/{name}", "/v1/resources/route/orders", "", `"action": "deleted"`)
		f(404, "DELETE /v1/resources/{kind}/{name}", "/v1/resources/route/orders", "", `there is no route \"orders\"`)

		f(201, "POST /v1/tokens", "", `{"ttl": "600s", "allowed_names": ["db1"]}`, "mesh1.")
		listed := f(200, "GET /v1/tokens", "", "", `"db1"`)
		f(200, "DELETE /v1/tokens/{id}", "/v1/tokens/"+tokenID(t, listed.body, "db1"), "")
		f(201, "POST /v1/access-tokens", "", `{"role": "ROLE_VIEWER", "description": "graphs"}`, "meshd-access.")
		listed = f(200, "GET /v1/access-tokens", "", "", `"description": "graphs"`, `"secret_hash": ""`)
		f(200, "DELETE /v1/access-tokens/{id}", "/v1/access-tokens/"+tokenID(t, listed.body, "graphs"), "")
		f(200, "GET /v1/audit", "/v1/audit?action=delete", "", `"objects": [`, `"route/orders"`, `"actor": "token/`, `"refusal": "not found"`)

		// What these answer is for the tests of their methods.
		for endpoint, path := range map[string]string{
			"DELETE /v1/hosts/{name}": "/v1/hosts/absent", "DELETE /v1/servers/{name}": "/v1/servers/absent", "GET /v1/raft/peers": "",
			"POST /v1/raft/transfer": "", "GET /v1/keyring": "", "POST /v1/keyring/rotate": "", "GET /v1/ca": "", "GET /v1/snapshot": "",
		} {
			verb, pattern, _ := strings.Cut(endpoint, " ")
			if path == "" {
				path = pattern
			}
			asked[endpoint] = true
			if a := w.do(verb, path, ""); slices.Contains([]int{400, 401, 403, 405, 415}, a.StatusCode) || a.StatusCode == 404 && !strings.HasSuffix(path, "absent") {
				t.Errorf("%s gave %s: %s", endpoint, a.Status, a.body)
			}
		}
		asked["POST /v1/ca/rotate"], asked["PUT /v1/snapshot"] = true, true
		w.wants(400, []string{"does not fit"}, "POST", "/v1/ca/rotate", `{"root": true}`)
		w.wants(415, []string{"application/octet-stream"}, "PUT", "/v1/snapshot", `{}`)
		for endpoint := range httpapi.Endpoints() {
			if !asked[endpoint] {
				t.Errorf("%s is tested by nothing", endpoint)
			}
		}
	})
}

// tokenID finds the id of the token in a listing that a word tells from the rest.
func tokenID(t *testing.T, listing, word string) string {
	t.Helper()
	var list struct{ Tokens []json.RawMessage }
	if err := json.Unmarshal([]byte(listing), &list); err != nil {
		t.Fatal(err)
	}
	for _, token := range list.Tokens {
		if bytes.Contains(token, []byte(word)) {
			var id struct{ ID string }
			if err := json.Unmarshal(token, &id); err != nil {
				t.Fatal(err)
			}
			return id.ID
		}
	}
	t.Fatalf("no token with %s in %s", word, listing)
	return ""
}

func TestWhoMayAskForJSON(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Leader()
		laptop := m.Host("laptop")
		viewer, _ := accessToken(t, m, &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_VIEWER})
		f := func(w *web, status int, parts ...string) {
			t.Helper()
			a := w.wants(status, parts, "PUT", "/v1/resources/policy/web", `{"kind": "policy", "name": "web", "service": "web"}`)
			if (a.Header.Get("Www-Authenticate") != "") != (status == 401) {
				t.Errorf("%d comes with %v", status, a.Header)
			}
		}
		f(remote(t, laptop, s, ""), 401, `"unauthenticated"`, "authorization: Bearer TOKEN")
		f(remote(t, laptop, s, "nonsense"), 401, "no access token")
		f(remote(t, laptop, s, viewer), 403, `"permission_denied"`, "role is too low")
		f(local(t, s, 12345), 403, "run it as root")
		f(local(t, s, 0), 201, "created")
		remote(t, laptop, s, viewer).wants(200, []string{`"policy"`}, "GET", "/v1/resources", "")
		remote(t, laptop, s, viewer).wants(200, nil, "HEAD", "/v1/resources", "")

		guesser := remote(t, m.Host("elsewhere"), s, "nonsense")
		for range 30 {
			guesser.do("GET", "/v1/status", "")
		}
		a := guesser.wants(429, []string{"resource_exhausted"}, "GET", "/v1/status", "")
		if a.Header.Get("Retry-After") != "1" {
			t.Errorf("too many attempts come with %v", a.Header)
		}
	})
}

func TestVersionsOfResources(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		w := local(t, m.Leader(), 0)
		const path = "/v1/resources/service/orders"
		put := func(status int, part, body string, header ...string) *answer {
			t.Helper()
			return w.wants(status, []string{part}, "PUT", path, body, header...)
		}
		first := put(201, "created", `{"kind": "service", "name": "orders"}`).Header.Get("Etag")
		if got := w.wants(200, nil, "GET", path, "").Header.Get("Etag"); got != first || got == "" {
			t.Errorf("the version is %s, after %s was written", got, first)
		}
		second := put(200, "updated", `{"kind": "service", "name": "orders", "protocol": "http"}`, "If-Match", first).Header.Get("Etag")
		if second == first || second == "" {
			t.Errorf("the version %s became %s", first, second)
		}
		versions := []string{"was read at version " + strings.Trim(first, `"`), "is at version " + strings.Trim(second, `"`), "read it again"}
		w.wants(412, append(versions, `"aborted"`), "PUT", path, `{"kind": "service", "name": "orders"}`, "If-Match", first)
		w.wants(409, versions, "PUT", path, `{"kind": "service", "name": "orders", "version": `+strings.Trim(first, `"`)+`}`)
		w.wants(409, versions, "POST", "/v1/apply", `{"kind": "service", "name": "orders", "version": `+strings.Trim(first, `"`)+`}`)
		w.wants(412, []string{"version"}, "DELETE", path, "", "If-Match", first)
		put(200, "unchanged", `{"kind": "service", "name": "orders", "protocol": "http"}`, "If-Match", second)
		put(400, "leave one of them out", `{"kind": "service", "name": "orders", "version": 5}`, "If-Match", second)
		for _, tag := range []string{"7", "*", `W/"7"`, `"0"`, `"7", "8"`, `""`, `"x"`} {
			put(400, "if-match is not one version", `{"kind": "service", "name": "orders"}`, "If-Match", tag)
		}
		put(400, "if-none-match", `{"kind": "service", "name": "orders"}`, "If-None-Match", "*")
		w.wants(200, []string{"deleted"}, "DELETE", path, "", "If-Match", second)
	})
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		w := local(t, m.Leader(), 0)
		f := func(status int, part, verb, path, body string, header ...string) *answer {
			t.Helper()
			return w.wants(status, []string{part}, verb, path, body, header...)
		}
		f(404, "there is nothing at /", "GET", "/", "")
		f(404, "docs/api.md", "GET", "/v1/nonsense", "")
		f(404, "there is nothing", "GET", "/v1/status/", "")
		f(404, "there is nothing", "GET", "/v1//status", "")
		f(404, "there is nothing", "GET", "/v1/../v1/status", "")
		if a := f(405, "takes GET", "DELETE", "/v1/status", ""); !strings.Contains(a.Header.Get("Allow"), "GET") {
			t.Errorf("405 comes with %v", a.Header)
		}
		f(405, "not OPTIONS", "OPTIONS", "/v1/apply", "", "Origin", "https://evil.example")
		f(400, `no parameter \"wide\"`, "GET", "/v1/status?wide=1", "")
		f(400, "it takes stale, size, after, state, prefix", "GET", "/v1/members?stat=1", "")
		f(400, "one of alive, lost, left", "GET", "/v1/members?state=dead", "")
		f(400, "given 2 times", "GET", "/v1/members?prefix=a&prefix=b", "")
		f(400, "neither true nor false", "GET", "/v1/members?stale=maybe", "")
		f(400, "not a number", "GET", "/v1/members?size=-1", "")
		f(400, "10000 is the most", "GET", "/v1/members?size=10001", "")
		f(400, "begin anew", "GET", "/v1/members?after=xyz", "")
		f(400, "meta=KEY=VALUE", "GET", "/v1/services?meta=x", "")
		f(400, "cannot be read", "GET", "/v1/services?a;b", "")
		f(400, "no parameter", "DELETE", "/v1/hosts/h1?name=h2", "")
		f(400, "takes no body", "GET", "/v1/status", "{}")
		f(400, "takes no body", "DELETE", "/v1/tokens/x", "{}")
		f(415, "content-type: application/json", "POST", "/v1/apply", "[]", "Content-Type", "text/plain")
		f(415, "content-type: application/json", "POST", "/v1/apply", "[]", "Content-Type", "")
		f(400, "no JSON", "POST", "/v1/apply", "[")
		f(400, "no JSON", "POST", "/v1/apply", "kind: service")
		f(400, "nothing to apply", "POST", "/v1/apply", "[]")
		f(400, "3 mistakes found", "POST", "/v1/apply", `[{"kind": "service", "nam": "x"}, {"kind": "rout"}]`)
		f(400, `"line": 2`, "POST", "/v1/apply", "{\"kind\": \"service\",\n\"name\": \"x\", \"retry\": 7}")
		f(400, "no JSON, from byte 9 on", "POST", "/v1/tokens", `{"ttl": x}`)
		f(400, "unknown field", "POST", "/v1/tokens", `{"tll": "1h"}`)
		f(400, `the body is of service \"x\"`, "PUT", "/v1/resources/service/y", `{"kind": "service", "name": "x"}`)
		f(413, "larger than", "POST", "/v1/apply", `["`+strings.Repeat("x", 5<<20)+`"]`)
	})
}

// Who is slow holds no connection for long, and who has shown no token sends
// little.
func TestSlowAndTalkativeClients(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s, laptop := m.Leader(), m.Host("laptop")
		f := func(text string, most time.Duration) {
			t.Helper()
			raw, err := laptop.DialContext(t.Context(), "tcp", s.Address())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			start := time.Now()
			if _, err := c.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, c)
			if took := time.Since(start); took > most {
				t.Errorf("%.30q holds a connection for %v", text, took)
			}
		}
		f("", 6*time.Second)
		f("GET /v1/status HTTP/1.1\r\n", 6*time.Second)
		f("POST /v1/apply HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n", 31*time.Second)
		f("GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n", 31*time.Second)
	})
}
