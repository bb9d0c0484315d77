package mesh

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// CompleteDeclaration gives a copy of d with every absent field that has a
// default filled in. The protocol, unless declared, is http with an http check
// and tcp without: bytes are never guessed at.
func CompleteDeclaration(d *apiv1.Declaration) *apiv1.Declaration {
	d = proto.CloneOf(d)
	if d.Id == "" {
		d.Id = d.Name
	}
	if d.Weight == nil {
		d.Weight = proto.Uint32(DefaultWeight)
	}
	if d.Protocol == apiv1.Protocol_PROTOCOL_UNSPECIFIED {
		d.Protocol = protocolOfChecks(d.Checks)
	}
	for _, check := range d.Checks {
		completeCheck(check)
	}
	return d
}

func protocolOfChecks(checks []*apiv1.CheckSpec) apiv1.Protocol {
	for _, check := range checks {
		if _, ok := check.GetKind().(*apiv1.CheckSpec_Http); ok {
			return apiv1.Protocol_PROTOCOL_HTTP
		}
	}
	return apiv1.Protocol_PROTOCOL_TCP
}

func completeCheck(check *apiv1.CheckSpec) {
	if check.Interval == nil {
		check.Interval = durationpb.New(DefaultCheckInterval)
	}
	if check.Timeout == nil {
		check.Timeout = durationpb.New(min(DefaultCheckTimeout, check.Interval.AsDuration()))
	}
}

const (
	maxDeclaredWeight = 1000
	maxTags           = 64
	maxMeta           = 64
	maxMetaValue      = 512
	maxChecks         = 16

	minCheckInterval = 100 * time.Millisecond
	maxCheckInterval = time.Hour
	minCheckTimeout  = 10 * time.Millisecond
	maxCheckTimeout  = time.Minute
)

// CheckDeclaration reports what is wrong with a declared service. Paths are as
// in a file of services.d; Resource is always 0.
func CheckDeclaration(d *apiv1.Declaration) []*apiv1.Problem {
	c := &checker{}
	c.unknownFields("", d.ProtoReflect())
	c.name("name", d.GetName())
	if d.GetId() != "" {
		c.check("id", "use letters, digits, . _ : or -", checkWord("id", d.GetId(), "._:-", 128))
	}
	if d.GetPort() < 1 || d.GetPort() > 65535 {
		c.add("port", "give the port on which the application listens, 1 to 65535", "port %d is none", d.GetPort())
	}
	c.protocol("protocol", d.GetProtocol())
	c.speaker(d)
	c.labels(d)
	if d.Weight != nil && (*d.Weight < 1 || *d.Weight > maxDeclaredWeight) {
		c.add("weight", fmt.Sprintf("use 1 to %d; to send no calls here, remove the service", maxDeclaredWeight), "weight %d is out of range", *d.Weight)
	}
	c.checks(d)
	return c.problems
}

// speaker checks who may speak as the service.
func (c *checker) speaker(d *apiv1.Declaration) {
	if d.GetUnit() != "" {
		c.check("unit", "give the full name of a systemd unit, such as web.service", checkUnit(d.GetUnit()))
	}
	if d.GetUser() != "" {
		c.check("user", "give a user of this host, by name or number", checkWord("user", d.GetUser(), "._-", 64))
	}
}

func checkUnit(unit string) error {
	stem := unit
	for _, suffix := range []string{".service", ".scope", ".slice"} {
		stem = strings.TrimSuffix(stem, suffix)
	}
	if stem == unit {
		return fmt.Errorf("unit %q does not end in .service, .scope or .slice", unit)
	}
	return checkWord("unit", stem, `:-_.\@`, 240)
}

func (c *checker) labels(d *apiv1.Declaration) {
	if len(d.GetTags()) > maxTags {
		c.add("tags", "leave some out", "there are %d tags, and %d is the most", len(d.Tags), maxTags)
	}
	for i, tag := range d.GetTags() {
		c.check(path("tags").index(i), "use letters, digits and . _ : = / -", checkTag(tag))
	}
	c.unique("tags", d.GetTags())
	if len(d.GetMeta()) > maxMeta {
		c.add("meta", "leave some out", "there are %d pairs, and %d is the most", len(d.Meta), maxMeta)
	}
	for _, key := range slices.Sorted(maps.Keys(d.GetMeta())) {
		c.check(path("meta").key(key), "use letters, digits, . _ or -", checkMetaKey(key))
		c.check(path("meta").key(key), "use a short value on one line", checkText(d.Meta[key], maxMetaValue))
	}
}

// checkTag takes more than a DNS label holds; a tag that is none is only not
// found by DNS.
func checkTag(tag string) error { return checkWord("tag", tag, "._:=/-", 63) }

func checkMetaKey(key string) error { return checkWord("meta key", key, "._-", 63) }

func (c *checker) checks(d *apiv1.Declaration) {
	if len(d.GetChecks()) > maxChecks {
		c.add("checks", "leave some out", "there are %d checks, and %d is the most", len(d.Checks), maxChecks)
	}
	for i, check := range d.GetChecks() {
		at := path("checks").index(i)
		switch kind := check.GetKind().(type) {
		case *apiv1.CheckSpec_Http:
			c.check(at.field("http"), "write the path to ask for, such as /healthz", checkHealthPath(kind.Http))
		case *apiv1.CheckSpec_Tcp:
			_, err := CheckTarget(kind.Tcp, 1)
			c.check(at.field("tcp"), `write ":" for the service's port, ":PORT", or "127.0.0.1:PORT"`, err)
		default:
			c.add(at, "write http: /healthz or tcp: \":\"", "the check does not say what to check")
		}
		c.durationWithin(at.field("interval"), check.GetInterval(), minCheckInterval, maxCheckInterval)
		c.durationWithin(at.field("timeout"), check.GetTimeout(), minCheckTimeout, maxCheckTimeout)
	}
}

func checkHealthPath(s string) error {
	if !strings.HasPrefix(s, "/") || len(s) > 1024 {
		return fmt.Errorf("%q is no path: it does not begin with /, or is longer than 1024 characters", s)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '#' {
			return fmt.Errorf("path %q has %q, which a request cannot carry", s, s[i])
		}
	}
	return nil
}

// CheckTarget gives the address that a tcp check asks. An absent host is
// 127.0.0.1, an absent port that of the service. Only addresses of the host's
// own loopback interface are allowed: a check must not be a way to reach other
// hosts in the agent's name.
func CheckTarget(tcp string, servicePort uint16) (netip.AddrPort, error) {
	host, port, ok := strings.Cut(tcp, ":")
	if rest, bracketed := strings.CutPrefix(tcp, "["); bracketed {
		host, port, ok = strings.Cut(rest, "]:")
	}
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%q is not ADDRESS:PORT", tcp)
	}
	addr, err := checkHost(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: %w", tcp, err)
	}
	if port == "" {
		return netip.AddrPortFrom(addr, servicePort), nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q: %q is not a port", tcp, port)
	}
	return netip.AddrPortFrom(addr, uint16(n)), nil
}

func checkHost(host string) (netip.Addr, error) {
	if host == "" {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", host)
	}
	if !addr.IsLoopback() || addr.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%s is not an address of this host's loopback interface", addr)
	}
	return addr, nil
}
