package observe

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestCodesExplainThemselves(t *testing.T) {
	name := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[string]bool{}
	for _, c := range Codes() {
		if !name.MatchString(c.Name) || seen[c.Name] {
			t.Errorf("%q is no name, or is given twice", c.Name)
		}
		seen[c.Name] = true
		if c.Status < 400 || c.Status > 599 {
			t.Errorf("%s has status %d", c.Name, c.Status)
		}
		for _, s := range []string{c.Sentence, c.Remedy} {
			if !strings.HasSuffix(s, ".") || s[0] < 'A' || s[0] > 'Z' {
				t.Errorf("%s: %q is no sentence", c.Name, s)
			}
		}
		if Lookup(c.Name) != c {
			t.Errorf("%s is not found", c.Name)
		}
	}
	if Lookup("nonsense") != nil {
		t.Error("a code that does not exist is found")
	}
}

func TestRequestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	o := New(reg, slog.New(slog.DiscardHandler))
	e := o.Edge(Outbound, "spiffe://mesh/svc/web", "orders")
	e.Request(&Record{Status: 200, Took: time.Millisecond, Received: 10})
	e.Request(&Record{Status: 204, Took: time.Millisecond})
	e.Request(&Record{Status: 503, Code: NoEndpoint, Sent: 3})
	o.Edge(Outbound, "nonsense", "orders").Request(&Record{})
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP meshd_requests_total Requests by how they ended; error is the code if meshd itself answered.
# TYPE meshd_requests_total counter
meshd_requests_total{direction="outbound",dst="orders",error="",src="unknown",status_class="none"} 1
meshd_requests_total{direction="outbound",dst="orders",error="",src="web",status_class="2xx"} 2
meshd_requests_total{direction="outbound",dst="orders",error="no-endpoint",src="web",status_class="5xx"} 1
# HELP meshd_bytes_total Bytes of bodies and streams: sent by callers, or received by them.
# TYPE meshd_bytes_total counter
meshd_bytes_total{direction="outbound",dst="orders",flow="received",src="web"} 10
meshd_bytes_total{direction="outbound",dst="orders",flow="sent",src="web"} 3
`), "meshd_requests_total", "meshd_bytes_total")
	if err != nil {
		t.Error(err)
	}
}

func TestMetricNames(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	o := New(reg, slog.New(slog.DiscardHandler))
	e := o.Edge(Inbound, "spiffe://mesh/host/vm1", "orders")
	e.Opened()
	e.Allowed()
	e.Refused("p")
	e.Audited("p", "r")
	e.Request(&Record{Status: 200, Sent: 1})
	e.Connection(&Record{})
	o.Retried("orders", "reset")
	o.BudgetExhausted("orders")
	o.Ejected("orders", "e")
	o.Recovered("orders", "e")
	o.Panic("orders@v2", true)
	Endpoints(reg, func(yield func(string, int, int)) { yield("orders", 2, 1) })
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	families, _ := reg.Gather()
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	want := []string{
		"meshd_authz_total", "meshd_bytes_total", "meshd_cluster_panic", "meshd_connections",
		"meshd_endpoint_ejections_total", "meshd_endpoints", "meshd_request_duration_seconds", "meshd_requests_total",
		"meshd_retries_total", "meshd_retry_budget_exhausted_total", "meshd_streams_total",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestFailuresAreLoggedAtALimitedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		o := New(prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&out, nil)))
		e := o.Edge(Outbound, "spiffe://mesh/svc/web", "orders")
		fail := func() { e.Request(&Record{Status: 502, Code: Reset, Err: errors.New("boom")}) }
		for range 100 {
			fail()
		}
		e.Request(&Record{Status: 503, Code: NoEndpoint, Err: errors.New("nobody")})
		e.Request(&Record{Status: 200})
		if n := strings.Count(out.String(), "code=reset"); n != linesPerSecond {
			t.Errorf("%d lines about resets", n)
		}
		if n := strings.Count(out.String(), "code=no-endpoint"); n != 1 {
			t.Errorf("%d lines about another code", n)
		}
		time.Sleep(time.Second)
		fail()
		if !strings.Contains(out.String(), "suppressed=95") {
			t.Errorf("nothing is said of what was held back:\n%s", out.String())
		}
	})
}

func TestAccessLog(t *testing.T) {
	var out bytes.Buffer
	o := New(prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	o.Edge(Outbound, "spiffe://mesh/svc/web", "orders").Request(&Record{Method: []byte("GET"), Path: []byte("/a\n"), Status: 200})
	for _, want := range []string{"src=web", "dst=orders", "method=GET", `path="/a\n"`, "status=200"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is missing:\n%s", want, out.String())
		}
	}
}

func TestRequestAllocatesNothing(t *testing.T) {
	o := New(prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	e := o.Edge(Outbound, "spiffe://mesh/svc/web", "orders")
	r := &Record{Method: []byte("GET"), Path: []byte("/"), Status: 200, Took: time.Millisecond, Sent: 10, Received: 10}
	if n := testing.AllocsPerRun(100, func() { e.Allowed(); e.Request(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	o := New(prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	e := o.Edge(Outbound, "spiffe://mesh/svc/web", "orders")
	r := &Record{Status: 200, Took: time.Millisecond, Sent: 10, Received: 10}
	for b.Loop() {
		e.Request(r)
	}
}
