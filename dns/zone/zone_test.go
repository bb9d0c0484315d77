package zone

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"
)

func packed(t *testing.T, name string) []byte {
	t.Helper()
	b := make([]byte, 300)
	n, err := mdns.PackDomainName(mdns.Fqdn(name), b, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func TestWire(t *testing.T) {
	f := func(want string, labels ...string) {
		t.Helper()
		got, ok := wire(root, labels...)
		if !ok || !bytes.Equal(got, packed(t, want)) {
			t.Errorf("%q: %q %v", labels, got, ok)
		}
	}
	f("orders.service.mesh", "Orders", "service", "mesh")
	f("127.in-addr.arpa", "127", "in-addr", "arpa")
	for _, bad := range [][]string{{""}, {strings.Repeat("a", 64)}, {strings.Repeat("a", 63), strings.Repeat("b", 63), strings.Repeat("c", 63), strings.Repeat("d", 63)}} {
		if _, ok := wire(root, bad...); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestReverse(t *testing.T) {
	for _, s := range []string{"10.0.0.1", "127.128.255.1", "0.0.0.0", "fd00::6", "2001:db8::567:89ab"} {
		want, err := mdns.ReverseAddr(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := reverse(netip.MustParseAddr(s)); !bytes.Equal(got, packed(t, want)) {
			t.Errorf("%s: %q", s, got)
		}
	}
}

func TestReverseCut(t *testing.T) {
	f := func(loopback, name, want string) {
		t.Helper()
		z := Build(Input{Domain: "mesh", Loopback: netip.MustParsePrefix(loopback)})
		wireName := packed(t, name)
		cut := z.reverseCut(wireName)
		if want == "" && cut != 0 || want != "" && !bytes.Equal(wireName[len(wireName)-cut:], packed(t, want)) {
			t.Errorf("%s in %s: %q", name, loopback, wireName[len(wireName)-cut:])
		}
	}
	f("127.128.0.0/9", "1.0.128.127.in-addr.arpa", "128.127.in-addr.arpa")
	f("127.128.0.0/9", "a.b.c.1.0.255.127.in-addr.arpa", "255.127.in-addr.arpa")
	f("127.128.0.0/9", "1.0.127.127.in-addr.arpa", "")
	f("127.128.0.0/9", "128.in-addr.arpa", "")
	f("127.128.0.0/9", "127.in-addr.arpa", "")
	f("127.128.0.0/9", "in-addr.arpa", "")
	f("127.128.0.0/9", "0128.127.in-addr.arpa", "")
	f("127.128.0.0/9", "999.127.in-addr.arpa", "")
	f("127.128.0.0/9", `1\.128.127.in-addr.arpa`, "")
	f("127.128.0.0/9", "128.127.in-addr.arpa.mesh", "")
	f("127.64.0.0/16", "1.2.64.127.in-addr.arpa", "64.127.in-addr.arpa")
	f("127.64.32.0/20", "1.47.64.127.in-addr.arpa", "47.64.127.in-addr.arpa")
	f("127.64.32.0/20", "1.48.64.127.in-addr.arpa", "")
	f("127.64.32.0/20", "64.127.in-addr.arpa", "")
	f("127.64.32.0/24", "9.32.64.127.in-addr.arpa", "32.64.127.in-addr.arpa")
	f("127.64.32.8/29", "9.32.64.127.in-addr.arpa", "9.32.64.127.in-addr.arpa")
}

// The bytes of the suffix at the end are not enough to be below it.
func TestIsBelow(t *testing.T) {
	suffix := packed(t, "mesh")
	for name, want := range map[string]bool{"mesh": true, "a.mesh": true, "a.b.mesh": true, ".": false, "notmesh": false, "mesh.a": false, `a\004mesh`: false} {
		if got := isBelow(packed(t, name), suffix); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestOrderVisitsAllOnce(t *testing.T) {
	for n := 1; n <= 130; n++ {
		s := set{units: make([]unit, n), rotate: n > 1}
		for seed := uint64(0); seed < 300; seed++ {
			order, seen := s.order(seed<<32|seed*7), make([]bool, n)
			for i := range n {
				if at := order.at(i); seen[at] {
					t.Fatalf("%d of %d comes twice with seed %d", at, n, seed)
				} else {
					seen[at] = true
				}
			}
		}
	}
}

// Whatever the input is, building does not panic, and everything built can be
// found and told.
func FuzzBuild(f *testing.F) {
	f.Add("mesh", "orders", "v1", "vm1", []byte{10, 0, 0, 1}, uint16(80), byte(9))
	f.Add("a.b", "x.y", "", "VM", make([]byte, 16), uint16(0), byte(30))
	f.Fuzz(func(t *testing.T, domain, service, tag, host string, ip []byte, port uint16, bits byte) {
		a, _ := netip.AddrFromSlice(ip)
		in := Input{Domain: domain, Nodes: []Node{{host, a}, {host, a}}, Loopback: netip.PrefixFrom(a, int(bits))}
		in.Services = []Service{{Name: service, Virtual: a, Instances: []Instance{{"1", host, a, port, []string{tag, tag}, 1, true}, {"2", "", a, port + 1, nil, 1, true}}}}
		z := Build(in)
		for name, n := range z.names {
			for _, s := range n.sets {
				if _, sec := z.Append(nil, 0, []byte(name), s.qtype, 65535, 1); sec.Answers == 0 || sec.Rcode != mdns.RcodeSuccess {
					t.Errorf("%q %d: %+v", name, s.qtype, sec)
				}
			}
		}
	})
}
