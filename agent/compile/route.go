package compile

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/proxy/plan"
)

// rules of all routes of a service; those of several routes in the order of the
// routes' names.
func (c *compiler) rules(s *service) []plan.Rule {
	if !s.protocol.Requests() {
		if len(s.GetRoutes()) > 0 && s.declared {
			c.problem("service %s: its routes have no effect, since its protocol is %s", s.GetName(), protocolName(s.protocol))
		}
		return nil
	}
	var rules []plan.Rule
	for _, r := range byName(s.GetRoutes()) {
		for i, rule := range r.GetRoute().GetRules() {
			splits := c.splits(s, r.GetName(), i, rule.GetSplit())
			if len(splits) == 0 {
				c.problem("route %s: rules[%d] gives no share to anything and is left out", r.GetName(), i)
				continue
			}
			rules = append(rules, plan.Rule{Match: match(rule.GetMatch()), Target: target(splits, s.GetConfig(), rule)})
		}
	}
	return rules
}

func byName(resources []*apiv1.Resource) []*apiv1.Resource {
	return slices.SortedFunc(slices.Values(resources), func(a, b *apiv1.Resource) int { return cmp.Compare(a.GetName(), b.GetName()) })
}

func match(m *apiv1.RouteMatch) plan.Match {
	out := plan.Match{Methods: m.GetMethods()}
	switch path := m.GetPath().GetKind().(type) {
	case *apiv1.PathMatch_Exact:
		out.Path = path.Exact
	case *apiv1.PathMatch_Prefix:
		out.Path, out.Prefix = segments(path.Prefix), true
	}
	for _, name := range slices.Sorted(maps.Keys(m.GetHeaders())) {
		out.Headers = append(out.Headers, plan.Header{Name: strings.ToLower(name), Value: m.GetHeaders()[name]})
	}
	return out
}

// segments writes a prefix of whole segments in the one way that the plan knows,
// without a slash at its end.
func segments(prefix string) string {
	if trimmed := strings.TrimRight(prefix, "/"); trimmed != "" {
		return trimmed
	}
	return "/"
}

// splits of a rule; without any, calls go to the service itself.
func (c *compiler) splits(s *service, route string, rule int, splits []*apiv1.Split) []plan.Split {
	if len(splits) == 0 {
		return []plan.Split{{Cluster: c.cluster(s, ""), Weight: mesh.DefaultWeight}}
	}
	var out []plan.Split
	for _, split := range splits {
		weight := mesh.EffectiveSplitWeight(split)
		if weight == 0 {
			continue
		}
		cluster, problem := c.destination(split.GetTo())
		if problem != "" {
			c.problem("route %s: rules[%d]: %s; calls that are sent there fail", route, rule, problem)
		}
		out = append(out, plan.Split{Cluster: cluster, Weight: weight})
	}
	return out
}

// destination of a split. Where it cannot be had the cluster is empty: its share
// fails for all to see and goes nowhere that nobody asked for.
func (c *compiler) destination(to string) (cluster *plan.Cluster, problem string) {
	name, subset, err := mesh.SplitTo(to)
	if err != nil {
		return c.nowhere(to, to), err.Error()
	}
	s, ok := c.services[name]
	switch {
	case !ok:
		return c.nowhere(to, name), "service " + name + " is not known to this host"
	case subset != "" && s.GetConfig().GetSubsets()[subset] == nil:
		return c.nowhere(to, name), "service " + name + " has no subset " + subset
	case s.declared && !s.protocol.Requests():
		return c.nowhere(to+" over http", name), "service " + name + " is tcp, and routes are for http"
	}
	return c.cluster(s, subset), ""
}

func (c *compiler) nowhere(name, service string) *plan.Cluster {
	if c.clusters[name] == nil {
		identity := mesh.ServiceIdentity(c.TrustDomain, service).String()
		c.clusters[name] = &plan.Cluster{Name: name, Service: service, Identity: identity, Protocol: plan.HTTP}
	}
	return c.clusters[name]
}

// target of calls, on the service's terms as the rule, if any, changes them.
func target(splits []plan.Split, config *apiv1.Service, rule *apiv1.RouteRule) plan.Target {
	return plan.Target{
		Split:    splits,
		Timeouts: plan.Timeouts(mesh.EffectiveTimeouts(config.GetTimeout(), rule.GetTimeout())),
		Retry:    retry(mesh.EffectiveRetry(config.GetRetry(), rule.GetRetry())),
	}
}

func retry(r mesh.Retry) plan.Retry {
	out := plan.Retry{
		Attempts:     r.Attempts,
		Connect:      r.On.Connect,
		Refused:      r.On.Refused,
		Reset:        r.On.Reset,
		PerTry:       r.PerTry,
		BudgetRatio:  r.BudgetRatio,
		BudgetPerSec: r.BudgetPerSecond,
	}
	for _, s := range r.On.Statuses {
		out.Statuses = append(out.Statuses, plan.StatusRange(s))
	}
	return out
}
