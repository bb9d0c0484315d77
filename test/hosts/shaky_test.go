package hosts

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// shaky is an application with known faults: it is slow where it is asked to
// be, and answers 503 every second time.
const shaky = `
import http.server, time, urllib.parse
class Shaky(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = 'HTTP/1.1', 8192 # head and body in one packet
    seen = {}
    def do_GET(self):
        self.rfile.read(int(self.headers.get('Content-Length', 0)))
        url = urllib.parse.urlsplit(self.path)
        status, body = 200, 'ok'
        if url.path == '/slow':
            time.sleep(int(url.query) / 1000)
        elif url.path == '/flaky':
            n = self.seen[self.command] = self.seen.get(self.command, 0) + 1
            status = 503 if n % 2 == 0 else 200
        elif url.path == '/seen':
            body = str(self.seen.get(url.query, 0))
        self.send_response(status)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    do_POST = do_GET
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(('127.0.0.1', 8090), Shaky).serve_forever()
`

// shakyService has its faults left to timeouts and retries alone.
func shakyService(settings string) string {
	return "kind: service\nname: shaky\nprotocol: http\nbreaker: {consecutive: 0, success_rate: 0}\n" + settings + "\n"
}

const shakyRetry = "retry: {attempts: 1, on: [5xx], budget: {ratio: 1, min_per_second: 100}}"

// limits shows timeouts and retries on an application that needs them.
func (m *mesh) limits(t *testing.T) {
	m.write(t, "h3", "/opt/shaky.py", shaky)
	m.application(t, "h3", "shaky", "/usr/bin/python3 -u /opt/shaky.py")
	m.waitOutput(t, "h3", httpStatus+"http://127.0.0.1:8090/", "200") // or the first check fails
	m.run(t, "h3", "meshd service add shaky --port 8090 --protocol http --check tcp")
	m.waitPassing(t, "h4", "shaky", 1)
	m.timeouts(t)
	m.retries(t)
}

func (m *mesh) timeouts(t *testing.T) {
	m.apply(t, "h1", shakyService("timeout: {request: 15s}"))
	const call = "curl --silent --include 'http://shaky.mesh/slow?1000' | tr -d '\\r' | awk 'NR == 1 {print $2} /^meshd-error:/ {print $2}'"
	if got := m.run(t, "h4", call); got != "200" {
		t.Fatalf("a call of one second said %q though it may take 15", got)
	}
	m.apply(t, "h1", shakyService("timeout: {request: 300ms}"))
	m.waitOutput(t, "h4", call, "504\nrequest-timeout")
	started := time.Now()
	if got := m.run(t, "h4", call); got != "504\nrequest-timeout" {
		t.Errorf("a call of one second said %q though it may take 300 ms", got)
	}
	if took := time.Since(started); took < 300*time.Millisecond {
		t.Errorf("the call was given up after %s, before its 300 ms were over", millis(took))
	} else {
		t.Logf("a call that may take 300 ms was given up after %s", millis(took))
	}
	if got := m.run(t, "h4", httpStatus+"'http://shaky.mesh/slow?1'"); got != "200" {
		t.Errorf("a quick call under the same limit said %s", got)
	}
}

func (m *mesh) retries(t *testing.T) {
	const n = 20
	statuses := func(options string) (ok, failed int) {
		out := m.run(t, "h4", fmt.Sprintf("curl --silent --output /dev/null --write-out '%%{http_code}\\n' %s 'http://shaky.mesh/flaky?[1-%d]'", options, n))
		return strings.Count(out, "200"), strings.Count(out, "503")
	}
	seen := func(method string) string {
		return m.run(t, "h4", "curl --silent --fail 'http://shaky.mesh/seen?"+method+"'")
	}
	m.apply(t, "h1", shakyService("retry: {attempts: 0}"))
	eventually(t, func() error {
		if ok, failed := statuses(""); ok != n/2 || failed != n/2 {
			return fmt.Errorf("without retries %d of %d calls succeeded and %d failed, want half", ok, n, failed)
		}
		return nil
	})
	m.apply(t, "h1", shakyService(shakyRetry))
	eventually(t, func() error {
		if ok, _ := statuses(""); ok != n {
			return fmt.Errorf("with retries %d of %d calls succeeded", ok, n)
		}
		return nil
	})
	ok, _ := statuses("")
	posted, refused := statuses("--data x")
	t.Logf("with retries %d of %d GETs succeeded, and %d of %d POSTs, of which the application saw %s", ok, n, posted, n, seen("POST"))
	if ok != n {
		t.Errorf("with retries %d of %d GETs succeeded", ok, n)
	}
	if posted != n/2 || refused != n/2 || seen("POST") != fmt.Sprint(n) {
		t.Errorf("%d POSTs succeeded and %d failed, and the application saw %s: they must not be retried", posted, refused, seen("POST"))
	}
}
