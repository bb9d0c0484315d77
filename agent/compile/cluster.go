package compile

import (
	"slices"
	"strings"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/proxy/plan"
)

// cluster gives the endpoints of a service, or of one of its subsets when one
// is named. Whoever sends calls there shares it.
func (c *compiler) cluster(s *service, subset string) *plan.Cluster {
	name := clusterName(s.GetName(), subset)
	if known, ok := c.clusters[name]; ok {
		return known
	}
	breaker := mesh.EffectiveBreaker(s.GetConfig().GetBreaker())
	cluster := &plan.Cluster{
		Name:     name,
		Service:  s.GetName(),
		Identity: mesh.ServiceIdentity(c.TrustDomain, s.GetName()).String(),
		Protocol: s.protocol,
		Balance:  balance(mesh.EffectiveBalance(s.GetConfig().GetBalance())),
		Breaker:  plan.Breaker(breaker),
	}
	cluster.Endpoints = make([]plan.Endpoint, 0, len(s.endpoints))
	match := s.GetConfig().GetSubsets()[subset].GetMatch()
	for _, e := range s.endpoints {
		if subset == "" || inSubset(e.of, match) {
			cluster.Endpoints = append(cluster.Endpoints, e.Endpoint)
		}
	}
	c.clusters[name] = cluster
	return cluster
}

func clusterName(service, subset string) string {
	if subset == "" {
		return service
	}
	return service + "@" + subset
}

// balance of a policy's name; one that a newer server may know gets the default.
func balance(policy string) plan.BalancePolicy {
	switch policy {
	case mesh.BalanceLeastRequest:
		return plan.LeastRequest
	case mesh.BalanceRoundRobin:
		return plan.RoundRobin
	case mesh.BalanceRandom:
		return plan.Random
	default:
		return plan.EWMA
	}
}

// inSubset reports whether the instance carries every pair that the subset asks
// for.
func inSubset(e *apiv1.Endpoint, match map[string]string) bool {
	for key, value := range match {
		if !carries(e, key, value) {
			return false
		}
	}
	return true
}

func carries(e *apiv1.Endpoint, key, value string) bool {
	if name, ok := strings.CutPrefix(key, "meta."); ok {
		got, ok := e.GetMeta()[name]
		return ok && got == value
	}
	switch key {
	case "tag":
		return slices.Contains(e.GetTags(), value)
	case "node":
		return e.GetNode() == value
	default:
		return false
	}
}
