package mesh

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func service(name string, s *apiv1.Service) *apiv1.Resource {
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Service{Service: s}}
}

func route(name string, r *apiv1.Route) *apiv1.Resource {
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Route{Route: r}}
}

func policy(name string, p *apiv1.Policy) *apiv1.Resource {
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Policy{Policy: p}}
}

func meshWide(name string, m *apiv1.Mesh) *apiv1.Resource {
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Mesh{Mesh: m}}
}

func prefix(p string) *apiv1.RouteMatch {
	return &apiv1.RouteMatch{Path: &apiv1.PathMatch{Kind: &apiv1.PathMatch_Prefix{Prefix: p}}}
}

func exact(p string) *apiv1.RouteMatch {
	return &apiv1.RouteMatch{Path: &apiv1.PathMatch{Kind: &apiv1.PathMatch_Exact{Exact: p}}}
}

func toV2(to string) *apiv1.Route {
	return &apiv1.Route{Service: "orders", Rules: []*apiv1.RouteRule{{Split: []*apiv1.Split{{To: to}}}}}
}

func withV2() *apiv1.Service {
	return &apiv1.Service{Subsets: map[string]*apiv1.Subset{"v2": {Match: map[string]string{"meta.version": "2"}}}}
}

// describe gives problems the form in which tests are written.
func describe(problems []*apiv1.Problem) []string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, fmt.Sprintf("%d %s: %s", p.Resource, p.Path, p.Message))
		if p.Fix == "" {
			lines = append(lines, "no fix is given")
		}
	}
	return lines
}

func TestValidateOneResource(t *testing.T) {
	f := func(r *apiv1.Resource, want ...string) {
		t.Helper()
		all := []*apiv1.Resource{r}
		if diff := cmp.Diff(want, describe(ValidateSet(all, all))); diff != "" {
			t.Errorf("%s: -want +got\n%s", KeyOf(r), diff)
		}
	}
	f(service("orders", withV2()))
	f(&apiv1.Resource{Name: "x"}, `0 kind: the resource "x" has no kind`)
	f(service("Orders", &apiv1.Service{}), `0 name: name "Orders" has 'O' at position 1: only a-z, 0-9 and, inside, - are allowed`)
	f(service("orders", &apiv1.Service{Protocol: 7}), `0 protocol: protocol number 7 is not known to this version`)
	f(service("orders", &apiv1.Service{Timeout: &apiv1.Timeouts{Request: durationpb.New(-time.Second), Idle: durationpb.New(0)}}),
		`0 timeout.request: the duration -1s is below zero`)
	f(service("orders", &apiv1.Service{Timeout: &apiv1.Timeouts{Connect: &durationpb.Duration{Seconds: 1, Nanos: -1}}}),
		`0 timeout.connect: the duration is out of range`)
	f(service("orders", &apiv1.Service{Retry: &apiv1.Retry{Attempts: proto.Uint32(11), On: []string{"5xx", "6xx", "200", "503", "5xx"}}}),
		`0 retry.attempts: 11 retries of one call would multiply a failure's load`,
		`0 retry.on[1]: "6xx" is not something to retry on`,
		`0 retry.on[2]: "200" is not something to retry on`,
		`0 retry.on[4]: "5xx" is given twice`)
	f(service("orders", &apiv1.Service{Retry: &apiv1.Retry{Budget: &apiv1.RetryBudget{Ratio: proto.Float64(math.NaN()), MinPerSecond: proto.Float64(-1)}}}),
		`0 retry.budget.ratio: NaN is out of range`, `0 retry.budget.min_per_second: -1 is out of range`)
	f(service("orders", &apiv1.Service{Balance: &apiv1.Balance{Policy: "fastest"}}), `0 balance.policy: there is no balance policy "fastest"`)
	f(service("orders", &apiv1.Service{Breaker: &apiv1.Breaker{Consecutive: proto.Uint32(1001), SuccessRate: proto.Float64(1.1), Window: durationpb.New(0), MaxEjected: proto.Float64(1)}}),
		`0 breaker.consecutive: 1001 failures in a row are too many to wait for`,
		`0 breaker.success_rate: 1.1 is out of range`, `0 breaker.window: the duration 0s is out of range`)
	f(service("orders", &apiv1.Service{Subsets: map[string]*apiv1.Subset{
		"V2": {Match: map[string]string{"node": "vm1"}}, "a": {}, "b": {Match: map[string]string{"version": "2", "meta.ok": "", "tag": "x y"}}}}),
		`0 subsets["V2"]: name "V2" has 'V' at position 1: only a-z, 0-9 and, inside, - are allowed`,
		`0 subsets.a: the subset "a" matches nothing in particular`,
		`0 subsets.b.tag: tag "x y" has ' ': only letters, digits and any of ._:=/- are allowed`,
		`0 subsets.b.version: "version" is nothing that instances are told apart by`)
	f(service("db", &apiv1.Service{Protocol: apiv1.Protocol_PROTOCOL_TCP,
		Timeout: &apiv1.Timeouts{Request: durationpb.New(1), Response: durationpb.New(1), Idle: durationpb.New(1)},
		Retry:   &apiv1.Retry{On: []string{"connect", "5xx"}, PerTry: durationpb.New(1)}}),
		`0 timeout.request: a tcp service has no requests to limit`,
		`0 timeout.response: a tcp service has no responses to wait for`,
		`0 retry.per_try: a tcp service has no requests to limit; timeout.connect limits a try`,
		`0 retry.on: a tcp service can only try again to connect`)

	f(route("r", &apiv1.Route{}), `0 service: name "" is not 1 to 63 characters long`, `0 rules: the route has no rules and so changes nothing`)
	f(route("r", &apiv1.Route{Service: "orders", Rules: []*apiv1.RouteRule{
		{Match: exact("/a"), Split: []*apiv1.Split{{To: "orders", Weight: proto.Uint32(0)}}},
		{Match: exact("v2/"), Split: []*apiv1.Split{{To: "a@b@c"}, {To: "b"}, {To: "b", Weight: proto.Uint32(2000000)}}},
		{Match: &apiv1.RouteMatch{Path: &apiv1.PathMatch{}, Methods: []string{"get", "GET", "G T", "GET"}, Headers: map[string]string{"X-A": "", "b": " c", "meshd-x": "1"}}},
		{Match: exact("/a"), Timeout: &apiv1.Timeouts{Idle: durationpb.New(-1)}},
	}}),
		`0 rules[0].split: every weight is 0, so that calls have nowhere to go`,
		`0 rules[1].match.path.exact: path "v2/" does not begin with /`,
		`0 rules[1].split[0].to: "a@b@c" is not SERVICE or SERVICE@SUBSET: subset name "b@c" has '@' at position 2: only a-z, 0-9 and, inside, - are allowed`,
		`0 rules[1].split[2].to: "b" is given twice`, `0 rules[1].split[2].weight: weight 2000000 is above 1000000`,
		`0 rules[2].match.path: the path to match is not given`,
		`0 rules[2].match.methods[0]: method "get" matches no GET: methods are told apart by case`,
		`0 rules[2].match.methods[2]: "G T" is no HTTP method`, `0 rules[2].match.methods[3]: "GET" is given twice`,
		`0 rules[2].match.headers["X-A"]: header name "X-A" is not in lower case`,
		`0 rules[2].match.headers.b: value " c" begins or ends with white space, which is never part of a header's value`,
		`0 rules[2].match.headers.meshd-x: header "meshd-x" is taken out of every call before rules are read`,
		`0 rules[3].timeout.idle: the duration -1ns is below zero`,
		`0 rules[3]: no call ever gets here: rules[0] takes them all`)
	f(route("r", &apiv1.Route{Service: "orders", Rules: []*apiv1.RouteRule{{Match: prefix("/")}, {Match: prefix("/b")}}}),
		`0 rules[1]: no call ever gets here: rules[0] takes them all`)

	f(policy("p", &apiv1.Policy{Service: "orders"}))
	f(policy("p", &apiv1.Policy{Service: "orders", Mode: 9, Default: 9, Rules: []*apiv1.PolicyRule{
		{Name: "x", From: []string{"web", "web-*", "host/vm1", "host/*", "*"}, Methods: []string{"GET"}, Paths: []string{"/*", "/orders/*", "/a"}},
		{Name: "x", Action: 9, From: []string{"we*b", "server/s1", "web", "web"}, Paths: []string{"*", "/a*", "/a/../b"}},
		{Name: "Y z"},
	}}),
		`0 mode: mode number 9 is not known to this version`, `0 default: action number 9 is not known to this version`,
		`0 rules[1].name: two rules are named "x"`, `0 rules[1].action: action number 9 is not known to this version`,
		`0 rules[1].from[0]: "we*b" is no caller: name "we*b" has '*' at position 3: only a-z, 0-9 and, inside, - are allowed`,
		`0 rules[1].from[1]: "server/s1" is no caller: name "server/s1" has '/' at position 7: only a-z, 0-9 and, inside, - are allowed`,
		`0 rules[1].from[3]: "web" is given twice`,
		`0 rules[1].paths[0]: path "*" does not begin with /`, `0 rules[1].paths[1]: path "/a*" has a * where no pattern can be; as a plain character it is %2A`,
		`0 rules[1].paths[2]: path "/a/../b" has the segment ".."`,
		`0 rules[2].name: name "Y z" has 'Y' at position 1: only a-z, 0-9 and, inside, - are allowed`,
		`0 rules[2].from: the rule says not whom it is about`)

	f(meshWide("mesh", &apiv1.Mesh{}))
	f(meshWide("other", &apiv1.Mesh{Certificates: &apiv1.MeshCertificates{Ttl: durationpb.New(time.Minute)}, Policy: &apiv1.MeshPolicy{Mode: 5, Default: 5}}),
		`0 name: there is one resource of kind mesh, and it is named "mesh", not "other"`,
		`0 policy.mode: mode number 5 is not known to this version`, `0 policy.default: action number 5 is not known to this version`,
		`0 certificates.ttl: the duration 1m0s is out of range`)
}

func TestValidateBounds(t *testing.T) {
	f := func(r *apiv1.Resource, want string) {
		t.Helper()
		all := []*apiv1.Resource{r}
		got := describe(ValidateSet(all, all))
		if len(got) == 0 || !strings.Contains(got[0], want) {
			t.Errorf("got %q, want something with %q", got, want)
		}
	}
	many := &apiv1.Route{Service: "orders"}
	for i := range 1001 {
		many.Rules = append(many.Rules, &apiv1.RouteRule{Match: exact(fmt.Sprintf("/%d", i))})
	}
	f(route("r", many), "there are 1001 entries, and 1000 is the most")
	f(route("r", &apiv1.Route{Service: strings.Repeat("x", 300<<10)}), "bytes, and 262144 is the most")

	newer := route("r", toV2("orders"))
	newer.GetRoute().Rules[0].ProtoReflect().SetUnknown([]byte{0xa0, 0x06, 0x01})
	f(newer, "0 rules[0]: it holds a field that this version does not know")
	newer = service("orders", withV2())
	newer.GetService().Subsets["v2"].ProtoReflect().SetUnknown([]byte{0xa0, 0x06, 0x01})
	f(newer, "0 subsets.v2: it holds a field that this version does not know")
}

func TestValidateReferences(t *testing.T) {
	tcp := &apiv1.Service{Protocol: apiv1.Protocol_PROTOCOL_TCP}
	reads := &apiv1.Policy{Service: "orders", Rules: []*apiv1.PolicyRule{{From: []string{"*"}, Methods: []string{"GET"}, Paths: []string{"/a"}}}}
	f := func(changed, others []*apiv1.Resource, want ...string) {
		t.Helper()
		got := describe(ValidateSet(changed, append(append([]*apiv1.Resource{}, others...), changed...)))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
	set := func(r ...*apiv1.Resource) []*apiv1.Resource { return r }

	f(set(route("r", toV2("orders@v2"))), set(service("orders", withV2())))
	f(set(route("r", toV2("orders@v2")), service("orders", withV2())), nil)
	f(set(route("r", toV2("orders@v2"))), nil, `0 rules[0].split[0].to: service "orders" has no resource that could define the subset "v2"`)
	f(set(meshWide("mesh", nil), route("r", toV2("orders@v3"))), set(service("orders", withV2())), `1 rules[0].split[0].to: service "orders" has no subset "v3"`)
	f(set(service("orders", &apiv1.Service{})), set(route("r", toV2("orders@v2"))),
		`0 subsets: service "orders" has no subset "v2" any more, and route "r" sends calls to it (rules[0].split[0].to)`)
	f(set(service("other", &apiv1.Service{})), set(route("r", toV2("orders@v2"))))
	f(set(route("b", toV2("x"))), set(route("a", toV2("y"))), `0 service: service "orders" has a route already, "a", and the order of rules must be plain`)
	f(set(route("a", toV2("x")), route("a", toV2("x"))), nil, `1 name: route "a" is given twice, as number 1 and number 2`)

	f(set(route("r", toV2("db"))), set(service("orders", tcp), service("db", tcp)),
		`0 rules[0].split[0].to: routes are for http, and service "db" is declared tcp`, `0 service: routes are for http, and service "orders" is declared tcp`)
	f(set(policy("p", reads)), set(service("orders", tcp)),
		`0 rules[0].methods: methods are of http, and service "orders" is declared tcp`, `0 rules[0].paths: paths are of http, and service "orders" is declared tcp`)
	f(set(service("orders", tcp)), set(policy("p", reads), policy("q", &apiv1.Policy{Service: "orders"}), policy("z", &apiv1.Policy{Service: "z"})),
		`0 protocol: service "orders" becomes tcp, and policy "p" has rules that only http knows`)
	f(set(service("orders", tcp)), set(route("r", &apiv1.Route{Service: "web", Rules: []*apiv1.RouteRule{{Split: []*apiv1.Split{{To: "orders"}}}}})),
		`0 protocol: service "orders" becomes tcp, and route "r" has rules that only http knows`)
}

func TestValidateDelete(t *testing.T) {
	left := []*apiv1.Resource{route("r", toV2("orders@v2")), route("s", toV2("orders")), policy("p", nil)}
	f := func(key ResourceKey, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, describe(ValidateDelete(key, left))); diff != "" {
			t.Errorf("%s: -want +got\n%s", key, diff)
		}
	}
	f(ResourceKey{ResourceService, "orders"}, `0 : service "orders" defines the subset "v2", which route "r" sends calls to (rules[0].split[0].to)`)
	f(ResourceKey{ResourceService, "web"})
	f(ResourceKey{ResourceRoute, "orders"})
}
