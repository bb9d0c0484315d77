package mesh

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseIdentity(t *testing.T) {
	for _, id := range []Identity{ServiceIdentity("corp.example", "web"), HostIdentity("a", "vm1"), ServerIdentity("a.b", "s1")} {
		got, err := ParseIdentity(id.String())
		if err != nil || got != id || id.URL().String() != id.String() {
			t.Errorf("%s: %v %v", id, got, err)
		}
	}
	for _, bad := range []string{"", "spiffe://", "spiffe://a/svc", "spiffe://a/svc/", "spiffe://a/svc/web/", "spiffe://A/svc/web", "spiffe:///svc/web",
		"spiffe://a/SVC/web", "spiffe://a/user/web", "spiffe://a/svc/we%62", "spiffe://a:1/svc/web", "spiffe://u@a/svc/web", "https://a/svc/web", "spiffe://a/svc/web?x", "spiffe://a../svc/web"} {
		if id, err := ParseIdentity(bad); err == nil {
			t.Errorf("%q is taken as %v", bad, id)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"a", "a-b", "0", strings.Repeat("a", 63)} {
		if err := CheckName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "-a", "a-", "a.b", "A", "a_b", "é", "a\x00", strings.Repeat("a", 64)} {
		if CheckName(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestVirtualAddress(t *testing.T) {
	f := func(loopback string, vip uint32, want string) {
		t.Helper()
		got, ok := VirtualAddress(netip.MustParsePrefix(loopback), vip)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s + %d: %s %v", loopback, vip, got, ok)
		}
	}
	f("127.128.0.0/9", 1, "127.128.0.1")
	f("127.128.0.0/9", 1<<23-1, "127.255.255.255")
	f("127.128.0.0/9", 1<<23, "")
	f("127.128.0.0/9", 0, "")
	f("127.129.5.6/16", 258, "127.129.1.2")
	f("127.128.0.0/9", 1<<32-1, "")
}
