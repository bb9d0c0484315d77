// Package route finds the rule that a request is subject to, and the share of
// a split that takes it.
package route

import (
	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/plan"
)

// A Table is the compiled rules of one service.
type Table struct {
	rules []rule
	paths bool
}

type rule struct {
	path    exchange.PathMatch
	anyPath bool
	methods []string
	headers []plan.Header
}

// Compile makes a table of rules, of which the first that matches decides.
func Compile(rules []plan.Rule) *Table {
	t := &Table{rules: make([]rule, len(rules))}
	for i := range rules {
		m := &rules[i].Match
		t.rules[i] = rule{
			path:    exchange.NewPathMatch(m.Path, m.Prefix),
			anyPath: m.Path == "",
			methods: m.Methods,
			headers: m.Headers,
		}
		t.paths = t.paths || m.Path != ""
	}
	return t
}

// ReadsPaths reports whether any rule depends on the path, so that requests
// must have a canonical one.
func (t *Table) ReadsPaths() bool { return t.paths }

// Match returns the index of the first rule that r meets, or -1.
func (t *Table) Match(r *exchange.Request) int {
	for i := range t.rules {
		if t.rules[i].match(r) {
			return i
		}
	}
	return -1
}

func (c *rule) match(r *exchange.Request) bool {
	return (c.anyPath || c.path.Match(r.Path)) && c.matchMethod(r.Method) && c.matchHeaders(r)
}

func (c *rule) matchMethod(method []byte) bool {
	for _, m := range c.methods {
		if string(method) == m {
			return true
		}
	}
	return len(c.methods) == 0
}

func (c *rule) matchHeaders(r *exchange.Request) bool {
	for _, h := range c.headers {
		if !r.Has(h.Name, h.Value) {
			return false
		}
	}
	return true
}
