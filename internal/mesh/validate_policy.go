package mesh

import (
	"fmt"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// Bounds of certificates.ttl. A certificate must outlive its renewal at two
// thirds and a server restart; one that is stolen must end some day.
const (
	minCertificateTTL = 10 * time.Minute
	maxCertificateTTL = 30 * 24 * time.Hour
)

func (c *checker) policy(p *apiv1.Policy) {
	c.name("service", p.GetService())
	c.policyMode("mode", p.GetMode())
	c.policyAction("default", p.GetDefault())
	c.count("rules", len(p.GetRules()))
	names := map[string]bool{}
	for i, rule := range p.GetRules() {
		at := path("rules").index(i)
		if name := rule.GetName(); name != "" {
			c.name(at.field("name"), name)
			if names[name] {
				c.add(at.field("name"), "give it another name", "two rules are named %q", name)
			}
			names[name] = true
		}
		c.policyRule(at, rule)
	}
}

func (c *checker) policyRule(p path, rule *apiv1.PolicyRule) {
	c.policyAction(p.field("action"), rule.GetAction())
	c.callers(p.field("from"), rule.GetFrom())
	c.methods(p.field("methods"), rule.GetMethods())
	c.count(p.field("paths"), len(rule.GetPaths()))
	for i, pattern := range rule.GetPaths() {
		_, _, err := PathPattern(pattern)
		c.check(p.field("paths").index(i), "write a path such as /orders, or /orders/* for all below it", err)
	}
	c.unique(p.field("paths"), rule.GetPaths())
}

func (c *checker) callers(p path, from []string) {
	c.count(p, len(from))
	if len(from) == 0 {
		c.add(p, `name the callers, or write from: ["*"] for all`, "the rule says not whom it is about")
	}
	for i, caller := range from {
		// The trust domain is of no account to whether the pattern is one.
		_, _, err := CallerPattern("mesh", caller)
		c.check(p.index(i), "write a service's name, NAME* for all that begin so, host/NAME, or *", err)
	}
	c.unique(p, from)
}

func (c *checker) policyMode(p path, mode apiv1.PolicyMode) {
	if _, ok := apiv1.PolicyMode_name[int32(mode)]; !ok {
		c.add(p, "use enforce or audit, or upgrade the servers first", "mode number %d is not known to this version", mode)
	}
}

func (c *checker) policyAction(p path, action apiv1.PolicyAction) {
	if _, ok := apiv1.PolicyAction_name[int32(action)]; !ok {
		c.add(p, "use allow or deny, or upgrade the servers first", "action number %d is not known to this version", action)
	}
}

// maxWholeCatalogue is how many services every host may be told of.
const maxWholeCatalogue = 100_000

func (c *checker) mesh(m *apiv1.Mesh) {
	c.policyMode("policy.mode", m.GetPolicy().GetMode())
	c.policyAction("policy.default", m.GetPolicy().GetDefault())
	if n := m.GetHosts().GetWholeCatalogue(); n > maxWholeCatalogue {
		c.add("hosts.whole_catalogue", fmt.Sprintf("give a number up to %d; single hosts can be given the whole catalogue by their token", maxWholeCatalogue), "no host could hold %d services", n)
	}
	c.durationWithin("certificates.ttl", m.GetCertificates().GetTtl(), minCertificateTTL, maxCertificateTTL)
}
