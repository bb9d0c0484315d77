package mesh

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
)

const maxSplitWeight = 1_000_000

func (c *checker) route(r *apiv1.Route) {
	c.name("service", r.GetService())
	c.count("rules", len(r.GetRules()))
	if len(r.GetRules()) == 0 {
		c.add("rules", "add a rule, or delete the route", "the route has no rules and so changes nothing")
	}
	for i, rule := range r.GetRules() {
		at := path("rules").index(i)
		c.routeMatch(at.field("match"), rule.GetMatch())
		c.split(at.field("split"), rule.GetSplit())
		c.timeouts(at.field("timeout"), rule.GetTimeout())
		c.retry(at.field("retry"), rule.GetRetry())
	}
	c.reachable(r.GetRules())
}

// reachable finds rules that an earlier one always takes the calls of.
func (c *checker) reachable(rules []*apiv1.RouteRule) {
	first := make(map[string]int, len(rules))
	for i, rule := range rules {
		match := normalMatch(rule.GetMatch())
		earlier, found := first[""] // a rule that matches everything
		if !found {
			earlier, found = first[match]
		}
		if found {
			c.add(path("rules").index(i), "move it up, or remove it", "no call ever gets here: rules[%d] takes them all", earlier)
			continue
		}
		first[match] = i
	}
}

// normalMatch is the same for matches that mean the same, and empty for one
// that takes everything.
func normalMatch(m *apiv1.RouteMatch) string {
	n := &apiv1.RouteMatch{}
	if m != nil {
		n = proto.CloneOf(m)
	}
	if p, ok := n.GetPath().GetKind().(*apiv1.PathMatch_Prefix); ok && p.Prefix == "/" || n.GetPath().GetKind() == nil {
		n.Path = nil
	}
	slices.Sort(n.Methods)
	form, _ := proto.MarshalOptions{Deterministic: true}.Marshal(n) // fails only on invalid UTF-8, which decoding refuses
	return string(form)
}

func (c *checker) routeMatch(p path, m *apiv1.RouteMatch) {
	c.pathMatch(p.field("path"), m.GetPath())
	c.methods(p.field("methods"), m.GetMethods())
	c.count(p.field("headers"), len(m.GetHeaders()))
	for _, name := range slices.Sorted(maps.Keys(m.GetHeaders())) {
		at := p.field("headers").key(name)
		c.check(at, "use a header name such as x-canary, in lower case", checkHeaderName(name))
		c.check(at, "use a value as it stands in a request", checkHeaderValue(m.GetHeaders()[name]))
	}
}

func (c *checker) pathMatch(p path, m *apiv1.PathMatch) {
	const fix = "write the path as requests have it once decoded, such as /orders/1"
	switch kind := m.GetKind().(type) {
	case *apiv1.PathMatch_Exact:
		c.check(p.field("exact"), fix, CheckPath(kind.Exact))
	case *apiv1.PathMatch_Prefix:
		c.check(p.field("prefix"), fix+"; a prefix takes all below it", CheckPath(kind.Prefix))
	default:
		if m != nil {
			c.add(p, "write path: {exact: /a} or path: {prefix: /a/}", "the path to match is not given")
		}
	}
}

func (c *checker) methods(p path, methods []string) {
	c.count(p, len(methods))
	for i, method := range methods {
		c.check(p.index(i), "use methods such as GET, in upper case", checkMethod(method))
	}
	c.unique(p, methods)
}

func (c *checker) split(p path, splits []*apiv1.Split) {
	c.count(p, len(splits))
	seen := map[string]bool{}
	var total uint64
	for i, split := range splits {
		at := p.index(i)
		_, _, err := SplitTo(split.GetTo())
		c.check(at.field("to"), "write SERVICE or SERVICE@SUBSET, such as orders@v2", err)
		if seen[split.GetTo()] {
			c.add(at.field("to"), "give it once, with the sum of the weights", "%q is given twice", split.GetTo())
		}
		seen[split.GetTo()] = true
		if split.GetWeight() > maxSplitWeight {
			c.add(at.field("weight"), "use smaller weights in the same proportion", "weight %d is above %d", split.GetWeight(), maxSplitWeight)
		}
		total += uint64(EffectiveSplitWeight(split))
	}
	if len(splits) > 0 && total == 0 {
		c.add(p, "give one of them a weight", "every weight is 0, so that calls have nowhere to go")
	}
}
