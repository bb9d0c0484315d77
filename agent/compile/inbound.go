package compile

import (
	"errors"
	"net/netip"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/proxy/plan"
)

var application = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// inbound lets others call this host's instances of a service. A service that
// the slice does not hold is not passed here: as long as its policies are not
// known nobody may call it.
func (c *compiler) inbound(p *plan.Plan, s *service) {
	policies := c.policies(s)
	settings := mesh.EffectiveMeshPolicy(c.Slice.Mesh)
	for _, i := range s.locals {
		port, ok := portOf(i.GetPort())
		if !ok {
			continue // told by the cluster
		}
		serverName := mesh.ServerName(c.TrustDomain, s.GetName(), port)
		if _, taken := p.Inbound[serverName]; taken {
			c.problem("service %s: instance %s has the port %d of another instance on this host; calls to both go to the same application", s.GetName(), i.GetId(), port)
			continue
		}
		p.Inbound[serverName] = &plan.Inbound{
			ServerName:  serverName,
			Service:     s.GetName(),
			Identity:    mesh.ServiceIdentity(c.TrustDomain, s.GetName()).String(),
			Protocol:    s.inboundProtocol(i),
			Address:     netip.AddrPortFrom(application, port),
			Policies:    policies,
			DefaultDeny: settings.DefaultDeny,
			Audit:       settings.Audit,
			Idle:        mesh.EffectiveTimeouts(s.GetConfig().GetTimeout()).Idle,
		}
	}
}

// inboundProtocol is what callers speak to this instance: what the service
// configures, else what the instance declares.
func (s *service) inboundProtocol(i *apiv1.Instance) plan.Protocol {
	if s.GetConfig().GetProtocol() == 0 && i.GetProtocol() != 0 {
		return protocol(i.GetProtocol())
	}
	return s.protocol
}

func (c *compiler) policies(s *service) []plan.Policy {
	var policies []plan.Policy
	for _, r := range byName(s.GetPolicies()) {
		settings := mesh.EffectivePolicy(r.GetPolicy())
		p := plan.Policy{Name: r.GetName(), Audit: settings.Audit, DefaultDeny: settings.DefaultDeny}
		for i, rule := range r.GetPolicy().GetRules() {
			if compiled, ok := c.policyRule(r.GetName(), i, rule); ok {
				p.Rules = append(p.Rules, compiled)
			}
		}
		policies = append(policies, p)
	}
	return policies
}

// policyRule compiles one rule. Of what it cannot understand it takes the
// stricter reading: a rule that allows then allows less, one that denies more.
func (c *compiler) policyRule(policy string, i int, rule *apiv1.PolicyRule) (compiled plan.PolicyRule, ok bool) {
	deny := rule.GetAction() > apiv1.PolicyAction_POLICY_ACTION_ALLOW
	callers, err := c.callers(rule.GetFrom())
	if err != nil {
		c.problem("policy %s: rules[%d]: %v", policy, i, err)
		if deny {
			callers, _ = c.callers([]string{"*"})
		}
	}
	paths, err := pathPatterns(rule.GetPaths())
	if err != nil {
		c.problem("policy %s: rules[%d]: %v", policy, i, err)
		if deny {
			paths = nil
		}
	}
	compiled = plan.PolicyRule{Name: rule.GetName(), Deny: deny, From: callers, Methods: rule.GetMethods(), Paths: paths}
	// A list that was emptied here must not read as one that asks for nothing.
	return compiled, len(callers) > 0 && (deny || err == nil || len(paths) > 0)
}

// callers gives those that can be understood, and what is wrong with the others.
func (c *compiler) callers(from []string) (patterns []plan.CallerPattern, wrong error) {
	if len(from) == 0 {
		return nil, errors.New("it does not say whom it is about")
	}
	for _, text := range from {
		id, prefix, err := mesh.CallerPattern(c.TrustDomain, text)
		if err != nil {
			wrong = errors.Join(wrong, err)
			continue
		}
		patterns = append(patterns, plan.CallerPattern{ID: id, Prefix: prefix})
	}
	return patterns, wrong
}

func pathPatterns(paths []string) (patterns []plan.PathPattern, wrong error) {
	for _, text := range paths {
		path, prefix, err := mesh.PathPattern(text)
		if err != nil {
			wrong = errors.Join(wrong, err)
			continue
		}
		patterns = append(patterns, plan.PathPattern{Path: path, Prefix: prefix})
	}
	return patterns, wrong
}
