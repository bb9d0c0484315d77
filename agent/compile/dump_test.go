package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/meshd/meshd/dns/zone"
	"github.com/meshd/meshd/proxy/plan"
)

// dump writes a result as text that people compare.
func dump(out Output) string {
	d := &dumper{clusters: map[string]*plan.Cluster{}}
	d.line("version %d of %s", out.Plan.Version, out.Plan.TrustDomain)
	for _, l := range out.Plan.Outbound {
		d.listener(l)
	}
	for _, name := range slices.Sorted(maps.Keys(d.clusters)) {
		d.cluster(d.clusters[name])
	}
	for _, name := range slices.Sorted(maps.Keys(out.Plan.Inbound)) {
		d.inbound(out.Plan.Inbound[name])
	}
	d.zone(out.Zone)
	for _, p := range out.Problems {
		d.line("problem: %s", p)
	}
	return d.String()
}

type dumper struct {
	strings.Builder
	clusters map[string]*plan.Cluster
	seen     *plan.Service
}

func (d *dumper) line(format string, args ...any) {
	fmt.Fprintln(d, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

func (d *dumper) listener(l plan.Listener) {
	d.line("listen %s for %s (%s)%s", l.Address, l.Service.Name, protocolName(l.Service.Protocol), mark(l.Optional, "optional"))
	if l.Service == d.seen {
		return // its rules were shown at the address before
	}
	d.seen = l.Service
	for _, r := range l.Service.Rules {
		d.line("  %s%s", showMatch(r.Match), d.target(r.Target))
	}
	d.line("  default%s", d.target(l.Service.Default))
}

func showMatch(m plan.Match) string {
	parts := []string{"match"}
	if m.Path != "" {
		parts = append(parts, m.Path+mark(m.Prefix, "and below"))
	}
	parts = append(parts, m.Methods...)
	for _, h := range m.Headers {
		parts = append(parts, h.Name+"="+h.Value)
	}
	return strings.Join(parts, " ")
}

func (d *dumper) target(t plan.Target) string {
	var b strings.Builder
	for _, s := range t.Split {
		d.clusters[s.Cluster.Name] = s.Cluster
		fmt.Fprintf(&b, " -> %s*%d", s.Cluster.Name, s.Weight)
	}
	fmt.Fprintf(&b, " timeouts %v", t.Timeouts)
	r := t.Retry
	fmt.Fprintf(&b, " retry %d%s%s%s %v per try %v budget %v+%v/s", r.Attempts, mark(r.Connect, "connect"),
		mark(r.Refused, "refused"), mark(r.Reset, "reset"), r.Statuses, r.PerTry, r.BudgetRatio, r.BudgetPerSec)
	return b.String()
}

func (d *dumper) cluster(c *plan.Cluster) {
	d.line("cluster %s of %s (%s) as %s balance %d breaker %v", c.Name, c.Service, protocolName(c.Protocol), c.Identity, c.Balance, c.Breaker)
	for _, e := range c.Endpoints {
		address := e.Address.String()
		if e.Local {
			address = "here"
		}
		d.line("  %s on %s at %s %s weight %d%s", e.Key, e.Node, address, e.ServerName, e.Weight, mark(e.Demoted, "demoted"))
	}
}

func (d *dumper) inbound(i *plan.Inbound) {
	d.line("inbound %s of %s (%s) as %s to %s idle %v%s%s", i.ServerName, i.Service, protocolName(i.Protocol), i.Identity, i.Address, i.Idle,
		mark(i.DefaultDeny, "deny"), mark(i.Audit, "audit"))
	for _, p := range i.Policies {
		d.line("  policy %s%s%s", p.Name, mark(p.DefaultDeny, "deny"), mark(p.Audit, "audit"))
		for _, r := range p.Rules {
			d.line("    %s", showRule(r))
		}
	}
}

func (d *dumper) zone(z zone.Input) {
	d.line("zone %s serial %d loopback %s", z.Domain, z.Serial, z.Loopback)
	for _, n := range z.Nodes {
		d.line("  node %s at %s", n.Name, n.Address)
	}
	for _, s := range z.Services {
		d.line("  service %s at %s", s.Name, s.Virtual)
		for _, i := range s.Instances {
			d.line("    %s on %s at %s port %d weight %d %v%s", i.ID, i.Node, i.Address, i.Port, i.Weight, i.Tags, mark(i.Healthy, "healthy"))
		}
	}
}

func showRule(r plan.PolicyRule) string {
	parts := []string{"allow"}
	if r.Deny {
		parts[0] = "deny"
	}
	if r.Name != "" {
		parts = append(parts, "("+r.Name+")")
	}
	for _, f := range r.From {
		parts = append(parts, f.ID+star(f.Prefix))
	}
	parts = append(parts, r.Methods...)
	for _, p := range r.Paths {
		parts = append(parts, p.Path+mark(p.Prefix, "and below"))
	}
	return strings.Join(parts, " ")
}

func star(on bool) string {
	if on {
		return "*"
	}
	return ""
}

func mark(on bool, name string) string {
	if on {
		return " " + name
	}
	return ""
}
