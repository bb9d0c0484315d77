package authz

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshd/meshd/proxy/plan"
)

const (
	web     = "spiffe://mesh/svc/web"
	billing = "spiffe://mesh/svc/billing"
	host    = "spiffe://mesh/host/vm1"
)

func from(ids ...string) (patterns []plan.CallerPattern) {
	for _, id := range ids {
		patterns = append(patterns, plan.CallerPattern{ID: id})
	}
	return patterns
}

var anybody = []plan.CallerPattern{{ID: "spiffe://mesh/", Prefix: true}}

func get(id, path string) Call {
	return Call{From: id, HTTP: true, Method: []byte("GET"), Path: []byte(path)}
}

func verdict(t *testing.T, in *plan.Inbound, c Call, want Verdict) {
	t.Helper()
	if diff := cmp.Diff(want, Compile(in).Evaluate(c)); diff != "" {
		t.Errorf("%s %s by %s: %s", c.Method, c.Path, c.From, diff)
	}
}

func TestNoPolicies(t *testing.T) {
	if (*Policies)(nil).Evaluate(get(web, "/")).Allowed {
		t.Error("a call is allowed though no policy is loaded")
	}
	verdict(t, &plan.Inbound{}, get(web, "/"), Verdict{Allowed: true})
	verdict(t, &plan.Inbound{DefaultDeny: true}, get(web, "/"), Verdict{})
	verdict(t, &plan.Inbound{DefaultDeny: true, Audit: true}, get(web, "/"), Verdict{Allowed: true, Audited: true})
}

func TestRules(t *testing.T) {
	in := &plan.Inbound{Policies: []plan.Policy{{
		Name: "orders", DefaultDeny: true,
		Rules: []plan.PolicyRule{
			{Name: "web-reads", From: from(web), Methods: []string{"GET", "HEAD"}, Paths: []plan.PathPattern{{Path: "/orders", Prefix: true}}},
			{Name: "billing", From: from(billing)},
			{Name: "nobody-to-admin", Deny: true, From: anybody, Paths: []plan.PathPattern{{Path: "/orders/admin", Prefix: true}}},
			{Name: "hosts", From: []plan.CallerPattern{{ID: "spiffe://mesh/host/", Prefix: true}}, Paths: []plan.PathPattern{{Path: "/health"}}},
			{Name: "empty"},
		},
	}}}
	f := func(c Call, want Verdict) { t.Helper(); verdict(t, in, c, want) }
	f(get(web, "/orders"), Verdict{Allowed: true, Policy: "orders", Rule: "web-reads"})
	f(get(web, "/orders/7"), Verdict{Allowed: true, Policy: "orders", Rule: "web-reads"})
	f(get(web, "/ordersX"), Verdict{Policy: "orders"})
	f(get(web, "/"), Verdict{Policy: "orders"})
	f(Call{From: web, HTTP: true, Method: []byte("POST"), Path: []byte("/orders")}, Verdict{Policy: "orders"})
	f(Call{From: billing, HTTP: true, Method: []byte("POST"), Path: []byte("/x")}, Verdict{Allowed: true, Policy: "orders", Rule: "billing"})
	f(get(billing, "/orders/admin/x"), Verdict{Policy: "orders", Rule: "nobody-to-admin"})
	f(get(host, "/health"), Verdict{Allowed: true, Policy: "orders", Rule: "hosts"})
	f(get(host, "/health/x"), Verdict{Policy: "orders"})
	f(get("spiffe://mesh/svc/webx", "/orders"), Verdict{Policy: "orders"})
	f(get("", "/orders"), Verdict{Policy: "orders"})
	// Of a TCP connection nothing but the caller is known.
	f(Call{From: billing}, Verdict{Policy: "orders", Rule: "nobody-to-admin"})
	f(Call{From: web}, Verdict{Policy: "orders", Rule: "nobody-to-admin"})
}

// OPTIONS * is about all that a server has, wherever that is.
func TestTheWholeServerIsBelowEveryPath(t *testing.T) {
	all := func(path string, prefix bool) []plan.PathPattern {
		return []plan.PathPattern{{Path: path, Prefix: prefix}}
	}
	f := func(paths []plan.PathPattern, deny, want bool) {
		t.Helper()
		p := Compile(&plan.Inbound{Policies: []plan.Policy{{Name: "orders", DefaultDeny: !deny, Rules: []plan.PolicyRule{
			{Name: "r", Deny: deny, From: anybody, Paths: paths},
		}}}})
		if v := p.Evaluate(Call{From: web, HTTP: true, Method: []byte("OPTIONS"), Path: []byte("*")}); v.Allowed != want {
			t.Errorf("%v, deny %v: allowed %v", paths, deny, v.Allowed)
		}
	}
	f(all("/", true), true, false)
	f(all("/admin", true), true, false)
	f(all("/admin", false), true, false)
	f(all("/", true), false, false)
	f(all("*", false), false, false)
	f(nil, true, false)
	f(nil, false, true)
}

func TestTCPAllowsOnlyWhatAsksForNothingElse(t *testing.T) {
	in := &plan.Inbound{Policies: []plan.Policy{{Name: "db", DefaultDeny: true, Rules: []plan.PolicyRule{
		{Name: "reads", From: from(web), Methods: []string{"GET"}},
		{Name: "billing", From: from(billing)},
	}}}}
	verdict(t, in, Call{From: web}, Verdict{Policy: "db"})
	verdict(t, in, Call{From: billing}, Verdict{Allowed: true, Policy: "db", Rule: "billing"})
}

func TestDenyWinsOverAllPolicies(t *testing.T) {
	in := &plan.Inbound{DefaultDeny: true, Policies: []plan.Policy{
		{Name: "open", Rules: []plan.PolicyRule{{Name: "all", From: anybody}}},
		{Name: "ban", Rules: []plan.PolicyRule{{Name: "web", Deny: true, From: from(web)}}},
	}}
	verdict(t, in, get(web, "/"), Verdict{Policy: "ban", Rule: "web"})
	verdict(t, in, get(billing, "/"), Verdict{Allowed: true, Policy: "open", Rule: "all"})
	// The default of the mesh is for services without a policy.
	in.Policies = in.Policies[1:]
	verdict(t, in, get(billing, "/"), Verdict{Allowed: true})
}

func TestAudit(t *testing.T) {
	allowBilling := plan.Policy{Name: "trial", Audit: true, DefaultDeny: true, Rules: []plan.PolicyRule{{Name: "billing", From: from(billing)}}}
	denyHosts := plan.Policy{Name: "ban", Audit: true, Rules: []plan.PolicyRule{{Name: "hosts", Deny: true, From: from(host)}}}
	allowWeb := plan.Policy{Name: "orders", DefaultDeny: true, Rules: []plan.PolicyRule{{Name: "web", From: from(web)}}}

	alone := &plan.Inbound{Policies: []plan.Policy{allowBilling}}
	verdict(t, alone, get(billing, "/"), Verdict{Allowed: true})
	verdict(t, alone, get(web, "/"), Verdict{Allowed: true, Audited: true, Policy: "trial"})

	// A policy in audit mode changes nothing about what is enforced.
	strict := &plan.Inbound{DefaultDeny: true, Policies: []plan.Policy{allowBilling}}
	verdict(t, strict, get(billing, "/"), Verdict{})
	both := &plan.Inbound{Policies: []plan.Policy{allowBilling, allowWeb, denyHosts}}
	verdict(t, both, get(billing, "/"), Verdict{Policy: "orders"})
	verdict(t, both, get(web, "/"), Verdict{Allowed: true, Policy: "orders", Rule: "web"})
	hosts := &plan.Inbound{Policies: []plan.Policy{denyHosts}}
	verdict(t, hosts, get(host, "/"), Verdict{Allowed: true, Audited: true, Policy: "ban", Rule: "hosts"})
}

func TestReadsPaths(t *testing.T) {
	in := &plan.Inbound{Policies: []plan.Policy{{Rules: []plan.PolicyRule{{From: anybody, Methods: []string{"GET"}}}}}}
	if Compile(in).ReadsPaths() || (*Policies)(nil).ReadsPaths() {
		t.Error("paths are read without a rule about them")
	}
	in.Policies[0].Rules[0].Paths = []plan.PathPattern{{Path: "/"}}
	if !Compile(in).ReadsPaths() {
		t.Error("paths are not read")
	}
}

func TestEvaluateAllocatesNothing(t *testing.T) {
	p := Compile(&plan.Inbound{Policies: []plan.Policy{{Name: "p", Rules: []plan.PolicyRule{
		{Name: "r", From: from(web), Paths: []plan.PathPattern{{Path: "/orders", Prefix: true}}},
	}}}})
	c := get(web, "/orders/7")
	if n := testing.AllocsPerRun(100, func() {
		if !p.Evaluate(c).Allowed {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEvaluate(b *testing.B) {
	in := &plan.Inbound{Policies: []plan.Policy{{Name: "p", DefaultDeny: true}}}
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "web"} {
		in.Policies[0].Rules = append(in.Policies[0].Rules, plan.PolicyRule{Name: id, From: from("spiffe://mesh/svc/" + id), Paths: []plan.PathPattern{{Path: "/orders", Prefix: true}}})
	}
	p, c := Compile(in), get(web, "/orders/7")
	for b.Loop() {
		p.Evaluate(c)
	}
}
