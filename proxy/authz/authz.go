// Package authz decides who may call a service.
package authz

import (
	"strings"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/plan"
)

// A Call is what a decision is about.
type Call struct {
	From string // SPIFFE ID of the caller, verified
	// HTTP says that Method and Path, which must be canonical or *, are known.
	HTTP   bool
	Method []byte
	Path   []byte
}

// A Verdict is a decision and what led to it. Without a policy the default of
// the mesh decided; without a rule, the default of the policy.
type Verdict struct {
	Allowed bool
	// Audited says that the call is let through only because what refuses it
	// is in audit mode.
	Audited bool
	Policy  string
	Rule    string
}

// Policies are the compiled policies of one service. Nil ones allow nothing.
type Policies struct {
	enforced ruleset
	// all has the policies in audit mode as well, if there is anything in audit
	// mode. These never open what the others refuse.
	all   *ruleset
	paths bool
}

// A ruleset is the rules of some policies.
type ruleset struct {
	deny, allow []rule
	// refuses is whether calls that no rule matches are refused, and by which
	// policy.
	refuses   bool
	refusedBy string
}

type rule struct {
	policy, name string
	from         []plan.CallerPattern
	methods      []string
	paths        []exchange.PathMatch
}

// Compile prepares the policies about a local instance.
func Compile(in *plan.Inbound) *Policies {
	p := &Policies{enforced: compile(in, false)}
	audit := in.Audit
	for i := range in.Policies {
		audit = audit || in.Policies[i].Audit
		for _, r := range in.Policies[i].Rules {
			p.paths = p.paths || len(r.Paths) > 0
		}
	}
	if audit {
		all := compile(in, true)
		p.all = &all
	}
	return p
}

// compile gathers the rules of all policies, or of those that are enforced.
// What the mesh says by default counts only when none of them is there.
func compile(in *plan.Inbound, audit bool) ruleset {
	var s ruleset
	found := false
	for i := range in.Policies {
		p := &in.Policies[i]
		if p.Audit && !audit {
			continue
		}
		found = true
		s.add(p)
	}
	if !found {
		s.refuses = in.DefaultDeny && (audit || !in.Audit)
	}
	return s
}

func (s *ruleset) add(p *plan.Policy) {
	for i := range p.Rules {
		r := compileRule(p.Name, &p.Rules[i])
		if p.Rules[i].Deny {
			s.deny = append(s.deny, r)
		} else {
			s.allow = append(s.allow, r)
		}
	}
	if p.DefaultDeny && !s.refuses {
		s.refuses, s.refusedBy = true, p.Name
	}
}

func compileRule(policy string, r *plan.PolicyRule) rule {
	c := rule{policy: policy, name: r.Name, from: r.From, methods: r.Methods}
	for _, p := range r.Paths {
		c.paths = append(c.paths, exchange.NewPathMatch(p.Path, p.Prefix))
	}
	return c
}

// ReadsPaths reports whether any rule depends on the path, so that requests
// must have a canonical one.
func (p *Policies) ReadsPaths() bool { return p != nil && p.paths }

// Evaluate decides about a call.
func (p *Policies) Evaluate(c Call) Verdict {
	if p == nil {
		return Verdict{}
	}
	v := p.enforced.evaluate(&c)
	if !v.Allowed || p.all == nil {
		return v
	}
	if all := p.all.evaluate(&c); !all.Allowed {
		return Verdict{Allowed: true, Audited: true, Policy: all.Policy, Rule: all.Rule}
	}
	return v
}

func (s *ruleset) evaluate(c *Call) Verdict {
	for i := range s.deny {
		if r := &s.deny[i]; r.match(c, true) {
			return Verdict{Policy: r.policy, Rule: r.name}
		}
	}
	for i := range s.allow {
		if r := &s.allow[i]; r.match(c, false) {
			return Verdict{Allowed: true, Policy: r.policy, Rule: r.name}
		}
	}
	return Verdict{Allowed: !s.refuses, Policy: s.refusedBy}
}

// match reports whether the rule is about c. Where methods and paths cannot be
// known, a rule that asks for them is taken to refuse rather than to allow.
func (r *rule) match(c *Call, deny bool) bool {
	if !r.matchCaller(c.From) {
		return false
	}
	if !c.HTTP {
		return deny || len(r.methods)+len(r.paths) == 0
	}
	return r.matchMethod(c.Method) && r.matchPath(c.Path, deny)
}

func (r *rule) matchCaller(id string) bool {
	for _, p := range r.from {
		if id == p.ID || p.Prefix && strings.HasPrefix(id, p.ID) {
			return true
		}
	}
	return false
}

func (r *rule) matchMethod(method []byte) bool {
	for _, m := range r.methods {
		if string(method) == m {
			return true
		}
	}
	return len(r.methods) == 0
}

// matchPath takes OPTIONS *, which is about all paths at once, for one that may
// be refused with any of them, and allowed with none.
func (r *rule) matchPath(path []byte, deny bool) bool {
	if len(r.paths) > 0 && string(path) == "*" {
		return deny
	}
	for i := range r.paths {
		if r.paths[i].Match(path) {
			return true
		}
	}
	return len(r.paths) == 0
}
