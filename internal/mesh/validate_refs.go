package mesh

import (
	"fmt"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// references checks a changed resource against the others.
func (c *checker) references(r *apiv1.Resource, set *resourceSet) {
	eachSplit(r, func(p path, to string) {
		service, subset, err := SplitTo(to)
		if err == nil && subset != "" {
			c.subsetExists(p, service, subset, set)
		}
		if err == nil && isTCP(set.services[service]) {
			c.add(p, "send to a service of http", "routes are for http, and service %q is declared tcp", service)
		}
	})
	switch spec := r.GetSpec().(type) {
	case *apiv1.Resource_Route:
		c.onlyRoute(r.Name, spec.Route.GetService(), set)
		if isTCP(set.services[spec.Route.GetService()]) {
			c.add("service", "make the service's protocol http, or delete the route",
				"routes are for http, and service %q is declared tcp", spec.Route.GetService())
		}
	case *apiv1.Resource_Policy:
		if isTCP(set.services[spec.Policy.GetService()]) {
			c.tcpPolicy(spec.Policy)
		}
	}
}

func (c *checker) subsetExists(p path, service, subset string, set *resourceSet) {
	s, ok := set.services[service]
	if !ok {
		c.add(p, fmt.Sprintf("apply a resource of kind service named %q with that subset, or send to %s", service, service),
			"service %q has no resource that could define the subset %q", service, subset)
		return
	}
	if _, ok := s.GetSubsets()[subset]; !ok {
		c.add(p, fmt.Sprintf("add subsets.%s to service %q, or name one of its subsets (%s)", subset, service, subsetNames(s)),
			"service %q has no subset %q", service, subset)
	}
}

// onlyRoute keeps the order of rules in one place: between two routes of one
// service nothing would say whose rules come first.
func (c *checker) onlyRoute(name, service string, set *resourceSet) {
	for _, r := range set.all {
		if r.GetRoute() != nil && r.GetRoute().GetService() == service && r.Name != name {
			c.add("service", fmt.Sprintf("put the rules of both into route %q, in the order in which they are to be tried", r.Name),
				"service %q has a route already, %q, and the order of rules must be plain", service, r.Name)
			return
		}
	}
}

func (c *checker) tcpPolicy(p *apiv1.Policy) {
	const fix = "leave them out, or make the service's protocol http"
	for i, rule := range p.GetRules() {
		at := path("rules").index(i)
		if len(rule.GetMethods()) > 0 {
			c.add(at.field("methods"), fix, "methods are of http, and service %q is declared tcp", p.GetService())
		}
		if len(rule.GetPaths()) > 0 {
			c.add(at.field("paths"), fix, "paths are of http, and service %q is declared tcp", p.GetService())
		}
	}
}

// bystander checks whether r, which stays as it is, still fits the changed
// service resource s.
func (c *checker) bystander(r, s *apiv1.Resource) {
	eachSplit(r, func(p path, to string) {
		service, subset, err := SplitTo(to)
		if err != nil || service != s.Name || subset == "" {
			return
		}
		if _, ok := s.GetService().GetSubsets()[subset]; !ok {
			c.add("subsets", fmt.Sprintf("keep the subset, or change %s in the same go", KeyOf(r)),
				"service %q has no subset %q any more, and %s sends calls to it (%s)", s.Name, subset, KeyOf(r), p)
		}
	})
	if isTCP(s.GetService()) && needsHTTP(r, s.Name) {
		c.add("protocol", fmt.Sprintf("change or delete %s in the same go", KeyOf(r)),
			"service %q becomes tcp, and %s has rules that only http knows", s.Name, KeyOf(r))
	}
}

// needsHTTP says whether r rests on the service being of http.
func needsHTTP(r *apiv1.Resource, service string) bool {
	needs := r.GetRoute().GetService() == service
	eachSplit(r, func(_ path, to string) {
		called, _, _ := SplitTo(to)
		needs = needs || called == service
	})
	if needs {
		return true
	}
	if r.GetPolicy().GetService() != service {
		return false
	}
	for _, rule := range r.GetPolicy().GetRules() {
		if len(rule.GetMethods())+len(rule.GetPaths()) > 0 {
			return true
		}
	}
	return false
}

func isTCP(s *apiv1.Service) bool {
	return s.GetProtocol() == apiv1.Protocol_PROTOCOL_TCP
}

// eachSplit calls f for every destination that r sends calls to.
func eachSplit(r *apiv1.Resource, f func(p path, to string)) {
	for i, rule := range r.GetRoute().GetRules() {
		for j, split := range rule.GetSplit() {
			f(path("rules").index(i).field("split").index(j).field("to"), split.GetTo())
		}
	}
}

// Concerns gives the services that a resource is about: first the one that it
// describes, routes or guards, then those that it sends calls to. Two resources can decide each other's
// validity only if they have one in common.
func Concerns(r *apiv1.Resource) []string {
	switch spec := r.GetSpec().(type) {
	case *apiv1.Resource_Service:
		return []string{r.Name}
	case *apiv1.Resource_Policy:
		return []string{spec.Policy.GetService()}
	case *apiv1.Resource_Route:
		names := []string{spec.Route.GetService()}
		for _, rule := range spec.Route.GetRules() {
			for _, split := range rule.GetSplit() {
				if service, _, err := SplitTo(split.GetTo()); err == nil {
					names = append(names, service)
				}
			}
		}
		return names
	}
	return nil
}
