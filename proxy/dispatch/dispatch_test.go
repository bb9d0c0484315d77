package dispatch

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/observe"
	"github.com/meshd/meshd/proxy/plan"
	"github.com/meshd/meshd/proxy/pool"
)

const (
	web    = "spiffe://mesh/svc/web"
	orders = "spiffe://mesh/svc/orders"
)

var vip = netip.MustParseAddrPort("127.128.0.1:80")

func newDispatcher(t testing.TB) *Dispatcher {
	t.Helper()
	p := pool.New(memnet.New().Host("a", netip.MustParseAddr("10.0.0.1")), nil)
	t.Cleanup(p.Close)
	return New(p, observe.New(prometheus.NewRegistry(), slog.New(slog.DiscardHandler)))
}

func planCluster(name string, endpoints ...plan.Endpoint) *plan.Cluster {
	return &plan.Cluster{Name: name, Service: "orders", Identity: orders, Protocol: plan.HTTP, Endpoints: endpoints}
}

func endpoint(key string) plan.Endpoint {
	return plan.Endpoint{Key: key, Address: netip.MustParseAddrPort("10.0.0.2:7443"), ServerName: "p." + key, Weight: 1}
}

func planTarget(retry plan.Retry, clusters ...*plan.Cluster) plan.Target {
	t := plan.Target{Retry: retry}
	for _, c := range clusters {
		t.Split = append(t.Split, plan.Split{Cluster: c, Weight: 1})
	}
	return t
}

func outbound(rules []plan.Rule, fallback plan.Target) *plan.Plan {
	s := &plan.Service{Name: "orders", Protocol: plan.HTTP, Rules: rules, Default: fallback}
	return &plan.Plan{Version: 7, Outbound: []plan.Listener{{Address: vip, Service: s}}}
}

func request(path string) *Request {
	return &Request{Request: &exchange.Request{Method: []byte("GET"), Path: []byte(path)}}
}

func TestRulesChooseTheTarget(t *testing.T) {
	d := newDispatcher(t)
	v1, v2 := planCluster("orders", endpoint("one")), planCluster("orders@v2", endpoint("two"))
	d.Swap(outbound([]plan.Rule{{Match: plan.Match{Path: "/v2", Prefix: true}, Target: planTarget(plan.Retry{}, v2)}}, planTarget(plan.Retry{}, v1)))
	o := d.Outbound(vip, web)
	for path, want := range map[string]string{"/v2/x": "two", "/%76%32": "two", "/v1": "one", "/": "one"} {
		var c Call
		if problem := o.Request(&c, request(path)); problem != nil || c.Endpoint() != want {
			t.Errorf("%s goes to %s, %v", path, c.Endpoint(), problem)
		}
		c.End()
	}
	var c Call
	if problem := o.Request(&c, request("/a//b")); problem == nil || problem.Code != observe.AmbiguousPath {
		t.Errorf("an ambiguous path: %v", problem)
	}
	if d.Version() != 7 {
		t.Errorf("version %d", d.Version())
	}
}

func TestRetriesAvoidTheLastEndpoint(t *testing.T) {
	d := newDispatcher(t)
	retry := plan.Retry{Attempts: 2, Connect: true, BudgetPerSec: 10}
	d.Swap(outbound(nil, planTarget(retry, planCluster("orders", endpoint("one"), endpoint("two")))))
	o := d.Outbound(vip, web)
	for range 20 {
		var c Call
		if problem := o.Request(&c, request("/")); problem != nil {
			t.Fatal(problem)
		}
		first := c.Endpoint()
		if again, _ := c.Again(Reset, 0); again {
			t.Fatal("tried again for a cause that is not configured")
		}
		if again, problem := c.Again(Connect, 0); !again || problem != nil || c.Endpoint() == first {
			t.Fatalf("tried again %v at %s after %s, %v", again, c.Endpoint(), first, problem)
		}
		if again, _ := c.Again(Connect, 0); !again {
			t.Fatal("no second retry")
		}
		if again, _ := c.Again(Connect, 0); again {
			t.Fatal("a third retry")
		}
		c.End()
	}
}

func TestSplitIsChosenOnce(t *testing.T) {
	d := newDispatcher(t)
	retry := plan.Retry{Attempts: 1, Connect: true, BudgetPerSec: 1000}
	d.Swap(outbound(nil, planTarget(retry, planCluster("orders@v1", endpoint("one")), planCluster("orders@v2", endpoint("two")))))
	o := d.Outbound(vip, web)
	seen := map[string]int{}
	for range 200 {
		var c Call
		o.Request(&c, request("/"))
		first := c.Endpoint()
		seen[first]++
		if again, _ := c.Again(Connect, 0); !again || c.Endpoint() != first {
			t.Fatal("a retry went to another share")
		}
		c.End()
	}
	if seen["one"] < 60 || seen["two"] < 60 {
		t.Errorf("shares %v", seen)
	}
}

func TestOpenConnectionsFollowThePlan(t *testing.T) {
	d := newDispatcher(t)
	o := d.Outbound(vip, web)
	var c Call
	if problem := o.Request(&c, request("/")); problem == nil || problem.Code != observe.NoConfiguration {
		t.Errorf("without a plan: %v", problem)
	}
	d.Swap(outbound(nil, planTarget(plan.Retry{}, planCluster("orders", endpoint("one")))))
	if problem := o.Request(&c, request("/")); problem != nil || c.Endpoint() != "one" {
		t.Errorf("with the first plan: %v", problem)
	}
	c.End()
	p := outbound(nil, planTarget(plan.Retry{}, planCluster("orders", endpoint("two"))))
	d.Swap(p)
	if problem := o.Request(&c, request("/")); problem != nil || c.Endpoint() != "two" {
		t.Errorf("with the second plan: %v", problem)
	}
	c.End()
	p = outbound(nil, planTarget(plan.Retry{}, planCluster("orders", endpoint("two"))))
	p.Outbound[0].Service.Protocol = plan.TCP
	d.Swap(p)
	if problem := o.Request(&c, request("/")); problem == nil || problem.Code != observe.NoConfiguration {
		t.Errorf("once the service is none of HTTP: %v", problem)
	}
	d.Swap(outbound(nil, planTarget(plan.Retry{})))
	if problem := o.Request(&c, request("/")); problem == nil || problem.Code != observe.NoEndpoint {
		t.Errorf("with no share: %v", problem)
	}
}

func TestBudget(t *testing.T) {
	var now time.Duration
	b := newBudget(now, 2)
	taken := func() (n int) {
		for b.withdraw(now, 2) {
			n++
		}
		return n
	}
	if n := taken(); n != 20 {
		t.Errorf("%d retries saved up at first", n)
	}
	now += 3 * time.Second
	if n := taken(); n != 6 {
		t.Errorf("%d retries in 3 s", n)
	}
	for range 10 {
		b.deposit(0.25, 2)
	}
	if n := taken(); n != 2 {
		t.Errorf("%d retries for 10 calls", n)
	}
	now += time.Hour
	for range 1000 {
		b.deposit(1, 2)
	}
	if n := taken(); n != 20 {
		t.Errorf("%d retries saved up in an hour", n)
	}
	none := newBudget(0, 0)
	if none.withdraw(time.Hour, 0) {
		t.Error("a retry without any budget")
	}
}

func TestRequestAllocatesNothing(t *testing.T) {
	d := newDispatcher(t)
	rules := []plan.Rule{{Match: plan.Match{Path: "/v2", Prefix: true}, Target: planTarget(plan.Retry{}, planCluster("orders@v2", endpoint("two"), endpoint("three")))}}
	d.Swap(outbound(rules, planTarget(plan.Retry{}, planCluster("orders", endpoint("one")))))
	o, r := d.Outbound(vip, web), request("/v2/%61")
	path := r.Path
	var c Call
	if n := testing.AllocsPerRun(100, func() {
		r.Path = path
		if problem := o.Request(&c, r); problem != nil {
			t.Fatal(problem)
		}
		c.Answered(200, nil, 0)
		c.End()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	d := newDispatcher(b)
	var endpoints []plan.Endpoint
	for i := range 10 {
		endpoints = append(endpoints, endpoint(string(rune('a'+i))))
	}
	d.Swap(outbound(nil, planTarget(plan.Retry{BudgetRatio: 0.2, BudgetPerSec: 10}, planCluster("orders", endpoints...))))
	o, r := d.Outbound(vip, web), request("/")
	var c Call
	for b.Loop() {
		o.Request(&c, r)
		c.Answered(200, nil, 0)
		c.End()
	}
}

// A plan of 10,000 endpoints is compiled while calls wait for nothing.
func BenchmarkSwap(b *testing.B) {
	d := newDispatcher(b)
	var endpoints []plan.Endpoint
	for i := range 10_000 {
		endpoints = append(endpoints, endpoint(time.Duration(i).String()))
	}
	p := outbound(nil, planTarget(plan.Retry{}, planCluster("orders", endpoints...)))
	for b.Loop() {
		d.Swap(p)
	}
}
