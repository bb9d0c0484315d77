package dns

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	mdns "github.com/miekg/dns"

	"github.com/meshd/meshd/dns/zone"
)

var update = flag.Bool("update", false, "write what is answered now to testdata")

// asked are the questions whose answers testdata/answers.txt holds.
var asked = []string{
	"orders.mesh A", "ORDERS.Mesh A", "orders.mesh AAAA", "orders.mesh SRV", "orders.mesh TXT", "orders.mesh ANY", "bare.mesh A", "addr.mesh A", "nobody.mesh A", "x.orders.mesh A",
	"orders.service.mesh A", "orders.service.mesh AAAA", "orders.service.mesh SRV", "orders.service.mesh MX", "nobody.service.mesh A",
	"down.service.mesh A", "down.service.mesh SRV", "empty.service.mesh A", "noport.service.mesh A", "noport.service.mesh SRV",
	"v1.orders.service.mesh A", "BLUE.orders.service.mesh A", "v2.orders.service.mesh SRV", "canary.orders.service.mesh A", "v9.orders.service.mesh A", "x.down.service.mesh A",
	"_orders._tcp.service.mesh SRV", "_orders._tcp.service.mesh A", "_nobody._tcp.service.mesh SRV", "_orders._udp.service.mesh SRV",
	"vm1.node.mesh A", "vm1.node.mesh AAAA", "vm6.node.mesh AAAA", "vm9.node.mesh A",
	"0a000001.addr.mesh A", "c0a80709.addr.mesh A", "fd000000000000000000000000000006.addr.mesh AAAA", "0a000009.addr.mesh A", "0a00001.addr.mesh A", "7f000001.addr.mesh A",
	"mesh A", "mesh SOA", "mesh NS", "mesh ANY", "service.mesh A", "node.mesh A", "_tcp.service.mesh A", "service.mesh ANY", "orders.mesh SOA", "orders.mesh DS",
	"1.0.128.127.in-addr.arpa PTR", "3.0.129.127.in-addr.arpa PTR", "9.9.200.127.in-addr.arpa PTR", "0.128.127.in-addr.arpa PTR", "128.127.in-addr.arpa SOA", "129.127.in-addr.arpa NS",
	"200.127.in-addr.arpa A", "127.in-addr.arpa A", "1.0.0.127.in-addr.arpa PTR", "1.0.0.10.in-addr.arpa PTR", "1.0.0.10.in-addr.arpa A", "9.0.0.10.in-addr.arpa PTR", "x.1.0.128.127.in-addr.arpa PTR",
	"01.0.128.127.in-addr.arpa PTR", "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa PTR",
	"example.com A", "mesh.example.com A", "notmesh A", ". NS", "com A", `a\.mesh A`, `orders\.mesh A`, `orders\.service.mesh A`, `or\000ders.mesh A`,
}

func TestAnswers(t *testing.T) {
	s := newServer(sampleInput())
	var b strings.Builder
	for _, a := range asked {
		name, qtype, _ := strings.Cut(a, " ")
		answer := ask(t, s, question(name, mdns.StringToType[qtype]), false)
		describe(&b, a, answer)
	}
	if *update {
		if err := os.WriteFile("testdata/answers.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/answers.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// describe writes an answer without what changes from one to the next.
func describe(b *strings.Builder, asked string, m *mdns.Msg) {
	fmt.Fprintf(b, "? %s\n  %s", asked, mdns.RcodeToString[m.Rcode])
	if m.Authoritative {
		b.WriteString(" aa")
	}
	if m.Truncated {
		b.WriteString(" tc")
	}
	b.WriteByte('\n')
	for _, section := range []struct {
		mark string
		rrs  []mdns.RR
	}{{"=", m.Answer}, {"@", m.Ns}, {"+", m.Extra}} {
		var lines []string
		for _, rr := range section.rrs {
			lines = append(lines, "  "+section.mark+" "+strings.ReplaceAll(rr.String(), "\t", " ")+"\n")
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
	}
}

func TestCaseIsKept(t *testing.T) {
	s := newServer(sampleInput())
	m := question("oRdErS.sErViCe.MeSh", mdns.TypeA)
	answer := ask(t, s, m, false)
	if answer.Question[0].Name != "oRdErS.sErViCe.MeSh." || answer.Answer[0].Header().Name != "oRdErS.sErViCe.MeSh." {
		t.Errorf("got %v", answer)
	}
}

func TestRecursionIsNotOffered(t *testing.T) {
	s := newServer(sampleInput())
	for _, desired := range []bool{true, false} {
		m := question("orders.mesh", mdns.TypeA)
		m.RecursionDesired = desired
		if answer := ask(t, s, m, false); answer.RecursionDesired != desired {
			t.Errorf("RD is %v", answer.RecursionDesired)
		}
	}
}

func TestNothingIsKnownBeforeTheFirstZone(t *testing.T) {
	s := New(Config{})
	if answer := ask(t, s, question("orders.mesh", mdns.TypeA), false); answer.Rcode != mdns.RcodeServerFailure || answer.Authoritative {
		t.Errorf("got %v", answer)
	}
}

func TestTruncation(t *testing.T) {
	s := newServer(manyInput(3000))
	f := func(name string, qtype uint16, edns uint16, tcp bool, most int, truncated bool) *mdns.Msg {
		t.Helper()
		m := question(name, qtype)
		if edns > 0 {
			m.SetEdns0(edns, false)
		}
		out := s.Answer(pack(t, m), tcp, nil)
		answer := proper(t, out)
		if len(out) > most || len(out) < most-60 && truncated || answer.Truncated != truncated {
			t.Errorf("%s %d: %d bytes with at most %d, truncated %v", name, qtype, len(out), most, answer.Truncated)
		}
		return answer
	}
	f("many.service.mesh", mdns.TypeA, 0, false, 512, true)
	f("many.service.mesh", mdns.TypeA, 100, false, 512, true)
	f("many.service.mesh", mdns.TypeA, 1000, false, 1000, true)
	f("many.service.mesh", mdns.TypeA, 65535, false, 1232, true)
	f("many.service.mesh", mdns.TypeSRV, 65535, false, 1232, true)
	f("orders.service.mesh", mdns.TypeSRV, 0, false, 512, false)
	if answer := f("many.service.mesh", mdns.TypeA, 0, true, 65535, false); len(answer.Answer) != 3000 {
		t.Errorf("%d records over TCP", len(answer.Answer))
	}
	// 3000 SRV records do not fit into any message.
	f("many.service.mesh", mdns.TypeSRV, 1232, true, 65535, true)
	s.Swap(zone.Build(manyInput(1000)))
	answer := f("many.service.mesh", mdns.TypeSRV, 1232, true, 65535, false)
	if len(answer.Answer) != 1000 || len(answer.Extra) < 400 {
		t.Errorf("%d records, %d addresses", len(answer.Answer), len(answer.Extra))
	}
}

func TestOrderDiffers(t *testing.T) {
	s := newServer(manyInput(10))
	first, second := map[string]int{}, map[string]int{}
	for range 2000 {
		answer := ask(t, s, question("many.service.mesh", mdns.TypeA), false)
		if len(answer.Answer) != 10 {
			t.Fatalf("%d records", len(answer.Answer))
		}
		a := answer.Answer[0].(*mdns.A).A.String()
		first[a]++
		second[a+" "+answer.Answer[1].(*mdns.A).A.String()]++
	}
	for a, n := range first {
		if n < 120 || n > 290 {
			t.Errorf("%s comes first %d times of 2000", a, n)
		}
	}
	if len(first) != 10 || len(second) < 40 {
		t.Errorf("%d are ever first, in %d pairs", len(first), len(second))
	}
}

func TestAnswerAppends(t *testing.T) {
	s := newServer(sampleInput())
	query := pack(t, question("orders.service.mesh", mdns.TypeSRV))
	out := s.Answer(query, true, []byte{1, 2})
	if !bytes.Equal(out[:2], []byte{1, 2}) {
		t.Error("what was there is gone")
	}
	if answer := proper(t, out[2:]); len(answer.Answer) != 5 || len(answer.Extra) != 4 {
		t.Errorf("got %v", answer)
	}
}

func TestAnsweringAllocatesNothing(t *testing.T) {
	s := newServer(manyInput(5))
	out := make([]byte, 0, maxUDP)
	f := func(m *mdns.Msg) {
		t.Helper()
		query := pack(t, m)
		if n := testing.AllocsPerRun(200, func() { out = s.Answer(query, false, out[:0]) }); n != 0 {
			t.Errorf("%s: %v allocations", m.Question[0].String(), n)
		}
	}
	f(question("orders.mesh", mdns.TypeA))
	f(question("nobody.mesh", mdns.TypeA))
	f(question("example.com", mdns.TypeA))
	f(question("9.9.200.127.in-addr.arpa", mdns.TypePTR))
	withEDNS := question("many.service.mesh", mdns.TypeSRV)
	withEDNS.SetEdns0(4096, true)
	f(withEDNS)
}

func BenchmarkAnswer(b *testing.B) {
	s := newServer(manyInput(5))
	f := func(name string, qtype uint16) {
		query := pack(b, question(name, qtype))
		out := make([]byte, 0, maxUDP)
		b.Run(name+"/"+mdns.TypeToString[qtype], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				out = s.Answer(query, false, out[:0])
			}
		})
	}
	f("orders.mesh", mdns.TypeA)
	f("many.service.mesh", mdns.TypeA)
	f("many.service.mesh", mdns.TypeSRV)
	f("nobody.mesh", mdns.TypeA)
}

func BenchmarkBuild(b *testing.B) {
	in := manyInput(10000)
	for b.Loop() {
		zone.Build(in)
	}
}
