package mesh

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
)

const (
	maxRetryAttempts = 10
	minBreakerWindow = time.Second
	maxBreakerWindow = 10 * time.Minute
)

var balancePolicies = []string{BalanceEWMA, BalanceLeastRequest, BalanceRoundRobin, BalanceRandom}

func (c *checker) service(s *apiv1.Service) {
	c.protocol("protocol", s.GetProtocol())
	c.timeouts("timeout", s.GetTimeout())
	c.retry("retry", s.GetRetry())
	if b := s.GetBalance(); b != nil && b.Policy != "" && !slices.Contains(balancePolicies, b.Policy) {
		c.add("balance.policy", "use one of "+strings.Join(balancePolicies, ", "), "there is no balance policy %q", b.Policy)
	}
	c.breaker("breaker", s.GetBreaker())
	c.subsets("subsets", s.GetSubsets())
	if isTCP(s) {
		c.tcpService(s)
	}
}

// tcpService refuses what would be configured and never act.
func (c *checker) tcpService(s *apiv1.Service) {
	const fix = "leave it out, or make the protocol http"
	if s.GetTimeout().GetRequest() != nil {
		c.add("timeout.request", fix, "a tcp service has no requests to limit")
	}
	if s.GetTimeout().GetResponse() != nil {
		c.add("timeout.response", fix, "a tcp service has no responses to wait for")
	}
	if s.GetRetry().GetPerTry() != nil {
		c.add("retry.per_try", fix, "a tcp service has no requests to limit; timeout.connect limits a try")
	}
	if on, _ := ParseRetryOn(s.GetRetry().GetOn()); len(on.Statuses) > 0 || on.Refused || on.Reset {
		c.add("retry.on", "use connect alone, or make the protocol http", "a tcp service can only try again to connect")
	}
}

func (c *checker) protocol(p path, protocol apiv1.Protocol) {
	if _, ok := apiv1.Protocol_name[int32(protocol)]; !ok {
		c.add(p, "use tcp or http, or upgrade the servers first", "protocol number %d is not known to this version", protocol)
	}
}

func (c *checker) timeouts(p path, t *apiv1.Timeouts) {
	c.duration(p.field("request"), t.GetRequest())
	c.duration(p.field("connect"), t.GetConnect())
	c.duration(p.field("response"), t.GetResponse())
	c.duration(p.field("idle"), t.GetIdle())
}

func (c *checker) duration(p path, d *durationpb.Duration) {
	if d == nil {
		return
	}
	if err := d.CheckValid(); err != nil {
		c.add(p, "write a duration such as 15s or 2m", "the duration is out of range")
		return
	}
	if d.AsDuration() < 0 {
		c.add(p, "use 0 for no limit", "the duration %s is below zero", d.AsDuration())
	}
}

// durationWithin takes durations of least to most.
func (c *checker) durationWithin(p path, d *durationpb.Duration, least, most time.Duration) {
	if d == nil {
		return
	}
	if d.CheckValid() != nil || d.AsDuration() < least || d.AsDuration() > most {
		c.add(p, fmt.Sprintf("choose a duration from %s to %s", least, most), "the duration %s is out of range", d.AsDuration())
	}
}

func (c *checker) retry(p path, r *apiv1.Retry) {
	if r == nil {
		return
	}
	if r.GetAttempts() > maxRetryAttempts {
		c.add(p.field("attempts"), fmt.Sprintf("use 0 to %d", maxRetryAttempts),
			"%d retries of one call would multiply a failure's load", r.GetAttempts())
	}
	c.count(p.field("on"), len(r.On))
	for i, word := range r.On {
		_, err := ParseRetryOn([]string{word})
		c.check(p.field("on").index(i), "use connect, refused, reset, 5xx, gateway-error or a status of 400 to 599", err)
	}
	c.unique(p.field("on"), r.On)
	c.duration(p.field("per_try"), r.PerTry)
	if b := r.Budget; b != nil {
		c.number(p.field("budget").field("ratio"), b.Ratio, 0, 1)
		c.number(p.field("budget").field("min_per_second"), b.MinPerSecond, 0, 1e6)
	}
}

// number takes values of least to most; NaN is neither.
func (c *checker) number(p path, n *float64, least, most float64) {
	if n != nil && !(*n >= least && *n <= most) {
		c.add(p, fmt.Sprintf("use a number from %g to %g", least, most), "%g is out of range", *n)
	}
}

func (c *checker) breaker(p path, b *apiv1.Breaker) {
	if b == nil {
		return
	}
	if b.GetConsecutive() > 1000 {
		c.add(p.field("consecutive"), "use 1 to 1000, or 0 to switch the rule off", "%d failures in a row are too many to wait for", b.GetConsecutive())
	}
	c.number(p.field("success_rate"), b.SuccessRate, 0, 1)
	c.number(p.field("max_ejected"), b.MaxEjected, 0, 1)
	c.durationWithin(p.field("window"), b.Window, minBreakerWindow, maxBreakerWindow)
}

func (c *checker) subsets(p path, subsets map[string]*apiv1.Subset) {
	c.count(p, len(subsets))
	for _, name := range slices.Sorted(maps.Keys(subsets)) {
		at := p.key(name)
		c.name(at, name)
		match := subsets[name].GetMatch()
		if len(match) == 0 {
			c.add(at, `say which instances it means, such as {meta.version: "2"}`, "the subset %q matches nothing in particular", name)
		}
		for _, key := range slices.Sorted(maps.Keys(match)) {
			c.check(at.key(key), `use meta.NAME, tag or node, with the value that an instance must have`, checkSubsetPair(key, match[key]))
		}
	}
}

func checkSubsetPair(key, value string) error {
	switch meta, ok := strings.CutPrefix(key, "meta."); {
	case ok:
		if err := checkMetaKey(meta); err != nil {
			return err
		}
		return checkText(value, maxMetaValue)
	case key == "tag":
		return checkTag(value)
	case key == "node":
		return CheckName(value)
	}
	return fmt.Errorf("%q is nothing that instances are told apart by", key)
}

func subsetNames(s *apiv1.Service) string {
	if len(s.GetSubsets()) == 0 {
		return "it has none"
	}
	return strings.Join(slices.Sorted(maps.Keys(s.GetSubsets())), ", ")
}

// count bounds a list.
func (c *checker) count(p path, n int) {
	if n > maxEntries {
		c.add(p, "split it up", "there are %d entries, and %d is the most", n, maxEntries)
	}
}

// unique refuses words that are given twice.
func (c *checker) unique(p path, words []string) {
	seen := make(map[string]bool, len(words))
	for i, word := range words {
		if seen[word] {
			c.add(p.index(i), "keep one", "%q is given twice", word)
		}
		seen[word] = true
	}
}
