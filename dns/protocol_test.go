package dns

import (
	"encoding/binary"
	"math/rand"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"
)

// raw builds a message from its parts as they are on the wire.
func raw(id, flags, qd, an, ns, ar int, rest ...string) []byte {
	var msg []byte
	for _, n := range []int{id, flags, qd, an, ns, ar} {
		msg = binary.BigEndian.AppendUint16(msg, uint16(n))
	}
	return append(msg, strings.Join(rest, "")...)
}

const (
	ordersA = "\x06orders\x04mesh\x00\x00\x01\x00\x01"
	noName  = "\x00"
	opt     = "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00" // EDNS version 0, size 1232
)

// What a message is answered with that is no ordinary question: an rcode, or
// nothing (-1). The question is repeated when it was understood.
func TestUnusualMessages(t *testing.T) {
	s := newServer(sampleInput())
	f := func(what string, msg []byte, rcode, questions int) {
		t.Helper()
		for _, tcp := range []bool{false, true} {
			out := s.Answer(msg, tcp, nil)
			if rcode < 0 {
				if len(out) > 0 {
					t.Errorf("%s: answered %x", what, out)
				}
				continue
			}
			if len(out) < headerSize {
				t.Errorf("%s: no answer", what)
				continue
			}
			answer := proper(t, out)
			got := answer.Rcode
			if o := answer.IsEdns0(); o != nil {
				got = o.ExtendedRcode()&^15 | answer.Rcode
			}
			if got != rcode || headerCount(out, 4) != questions || headerCount(out, 0) != headerCount(msg, 0) || !answer.Response {
				t.Errorf("%s: %s with %d questions\n%v", what, mdns.RcodeToString[got], headerCount(out, 4), answer)
			}
			if opcode := int(msg[2] >> 3 & 15); answer.Opcode != opcode {
				t.Errorf("%s: opcode %d", what, answer.Opcode)
			}
		}
	}
	ok, format, notImplemented, refused := mdns.RcodeSuccess, mdns.RcodeFormatError, mdns.RcodeNotImplemented, mdns.RcodeRefused
	f("good", raw(1, 0x0100, 1, 0, 0, 0, ordersA), ok, 1)

	// 51: loops and wild pointers
	f("pointer to itself", raw(1, 0, 1, 0, 0, 0, "\xc0\x0c\x00\x01\x00\x01"), format, 0)
	f("pointer to the header", raw(1, 0, 1, 0, 0, 0, "\xc0\x00\x00\x01\x00\x01"), format, 0)
	f("pointer past the end", raw(1, 0, 1, 0, 0, 0, "\xff\xff\x00\x01\x00\x01"), format, 0)
	f("label, then a loop", raw(1, 0, 1, 0, 0, 0, "\x01a\xc0\x0c\x00\x01\x00\x01"), format, 0)
	f("label type 01", raw(1, 0, 1, 0, 0, 0, "\x41a\x00\x00\x01\x00\x01"), format, 0)
	f("label type 10", raw(1, 0, 1, 0, 0, 0, "\x81a\x00\x00\x01\x00\x01"), format, 0)
	f("label past the end", raw(1, 0, 1, 0, 0, 0, "\x3fa\x00\x00\x01\x00\x01"), format, 0)
	f("name without an end", raw(1, 0, 1, 0, 0, 0, "\x01a\x01b"), format, 0)
	f("name of 255", raw(1, 0, 1, 0, 0, 0, strings.Repeat("\x01a", 127), "\x00\x00\x01\x00\x01"), refused, 1)
	f("name of 257", raw(1, 0, 1, 0, 0, 0, strings.Repeat("\x01a", 128), "\x00\x00\x01\x00\x01"), format, 0)
	f("question cut off", raw(1, 0, 1, 0, 0, 0, "\x06orders\x04mesh\x00\x00\x01\x00"), format, 0)
	f("no question at all", raw(1, 0, 1, 0, 0, 0), format, 0)
	f("loop in the additional section", raw(1, 0, 1, 0, 0, 1, ordersA, "\xc0\x1d\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00"), format, 1)
	f("short", []byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0}, -1, 0)
	f("empty", nil, -1, 0)

	// 52: answers
	f("QR=1", raw(1, 0x8000, 1, 0, 0, 0, ordersA), -1, 0)
	// 53: opcodes
	for opcode := 1; opcode < 16; opcode++ {
		f("opcode", raw(7, opcode<<11|0x0100, 1, 0, 0, 0, ordersA), notImplemented, 0)
	}
	// 54: counts
	f("QDCOUNT 0", raw(1, 0, 0, 0, 0, 0), format, 0)
	f("QDCOUNT 0 with EDNS", raw(1, 0, 0, 0, 0, 1, opt), format, 0)
	f("QDCOUNT 2", raw(1, 0, 2, 0, 0, 0, ordersA, ordersA), format, 0)
	f("QDCOUNT 65535", raw(1, 0, 65535, 0, 0, 0, ordersA), format, 0)
	f("QDCOUNT 1, more behind it", raw(1, 0, 1, 0, 0, 0, ordersA, ordersA), format, 1)
	f("ANCOUNT too large", raw(1, 0, 1, 1, 0, 0, ordersA), format, 1)
	f("ARCOUNT 65535", raw(1, 0, 1, 0, 0, 65535, ordersA, opt), format, 1)
	f("a record in the answer section", raw(1, 0, 1, 1, 0, 0, ordersA, "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04abcd"), ok, 1)
	// 55: transfers
	f("AXFR", raw(1, 0, 1, 0, 0, 0, "\x04mesh\x00\x00\xfc\x00\x01"), refused, 1)
	f("IXFR", raw(1, 0, 1, 0, 0, 0, "\x04mesh\x00\x00\xfb\x00\x01"), refused, 1)
	// 56: types and classes
	f("ANY", raw(1, 0, 1, 0, 0, 0, "\x06orders\x04mesh\x00\x00\xff\x00\x01"), ok, 1)
	f("class CH", raw(1, 0, 1, 0, 0, 0, "\x07version\x04bind\x00\x00\x10\x00\x03"), refused, 1)
	f("class CH of a name that is known", raw(1, 0, 1, 0, 0, 0, "\x06orders\x04mesh\x00\x00\x01\x00\x03"), refused, 1)
	f("class HS", raw(1, 0, 1, 0, 0, 0, "\x06orders\x04mesh\x00\x00\x01\x00\x04"), refused, 1)
	f("class NONE", raw(1, 0, 1, 0, 0, 0, "\x06orders\x04mesh\x00\x00\x01\x00\xfe"), refused, 1)
	f("class ANY", raw(1, 0, 1, 0, 0, 0, "\x06orders\x04mesh\x00\x00\x01\x00\xff"), refused, 1)
	f("type 0", raw(1, 0, 1, 0, 0, 0, "\x06orders\x04mesh\x00\x00\x00\x00\x01"), format, 1)
	f("type OPT", raw(1, 0, 1, 0, 0, 0, "\x06orders\x04mesh\x00\x00\x29\x00\x01"), format, 1)
	f("type MAILB", raw(1, 0, 1, 0, 0, 0, "\x06orders\x04mesh\x00\x00\xfd\x00\x01"), notImplemented, 1)
	f("type TSIG", raw(1, 0, 1, 0, 0, 0, "\x06orders\x04mesh\x00\x00\xfa\x00\x01"), refused, 1)
	f("type 65535", raw(1, 0, 1, 0, 0, 0, "\x06orders\x04mesh\x00\xff\xff\x00\x01"), ok, 1)
	// 57: other domains
	f("other domain", raw(1, 0, 1, 0, 0, 0, "\x07example\x03com\x00\x00\x01\x00\x01"), refused, 1)
	f("root", raw(1, 0, 1, 0, 0, 0, "\x00\x00\x02\x00\x01"), refused, 1)
	// 58: EDNS
	f("EDNS", raw(1, 0, 1, 0, 0, 1, ordersA, opt), ok, 1)
	f("EDNS version 1", raw(1, 0, 1, 0, 0, 1, ordersA, "\x00\x00\x29\x04\xd0\x00\x01\x00\x00\x00\x00"), mdns.RcodeBadVers, 1)
	f("EDNS version 255", raw(1, 0, 1, 0, 0, 1, ordersA, "\x00\x00\x29\x04\xd0\x00\xff\x00\x00\x00\x00"), mdns.RcodeBadVers, 1)
	f("two OPT", raw(1, 0, 1, 0, 0, 2, ordersA, opt, opt), format, 1)
	f("OPT with an owner", raw(1, 0, 1, 0, 0, 1, ordersA, "\x01a", opt), format, 1)
	f("OPT that is cut off", raw(1, 0, 1, 0, 0, 1, ordersA, opt[:9]), format, 1)
	f("OPT that claims options", raw(1, 0, 1, 0, 0, 1, ordersA, "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x05"), format, 1)
	f("option past its OPT", raw(1, 0, 1, 0, 0, 1, ordersA, "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x05\x00\x0a\x00\x08a"), format, 1)
	f("half an option", raw(1, 0, 1, 0, 0, 1, ordersA, "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x03\x00\x0a\x00"), format, 1)
	f("unknown option", raw(1, 0, 1, 0, 0, 1, ordersA, "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x06\xff\xf0\x00\x02ab"), ok, 1)
	f("cookie", raw(1, 0, 1, 0, 0, 1, ordersA, "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x08abcdefgh"), ok, 1)
	f("unknown flags", raw(1, 0, 1, 0, 0, 1, ordersA, "\x00\x00\x29\x04\xd0\x00\x00\x7f\xff\x00\x00"), ok, 1)
	f("size 0", raw(1, 0, 1, 0, 0, 1, ordersA, "\x00\x00\x29\x00\x00\x00\x00\x00\x00\x00\x00"), ok, 1)
	f("size 65535", raw(1, 0, 1, 0, 0, 1, ordersA, "\x00\x00\x29\xff\xff\x00\x00\x00\x00\x00\x00"), ok, 1)
	f("more behind EDNS", raw(1, 0, 1, 0, 0, 1, ordersA, opt, noName), format, 1)
	f("EDNS behind a record", raw(1, 0, 1, 0, 0, 2, ordersA, "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04abcd", opt), ok, 1)
	f("TSIG", raw(1, 0, 1, 0, 0, 1, ordersA, "\x01k\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x13", "\x01a\x00", "\x00\x00\x00\x00\x00\x00\x01\x2c\x00\x00\x00\x01\x00\x00\x00\x00"), refused, 1)
	// 63: dots and NULs within labels
	f("dot in a label", raw(1, 0, 1, 0, 0, 0, "\x0borders.mesh\x00\x00\x01\x00\x01"), refused, 1)
	f("NUL in a label", raw(1, 0, 1, 0, 0, 0, "\x07orders\x00\x04mesh\x00\x00\x01\x00\x01"), mdns.RcodeNameError, 1)
}

func TestEDNSInAnswers(t *testing.T) {
	s := newServer(sampleInput())
	f := func(name string, size uint16, dnssec bool) {
		t.Helper()
		m := question(name, mdns.TypeA)
		m.SetEdns0(size, dnssec)
		o := ask(t, s, m, false).IsEdns0()
		if o == nil || o.UDPSize() != 1232 || o.Do() != dnssec || o.Version() != 0 || len(o.Option) != 0 {
			t.Errorf("%s: %v", name, o)
		}
	}
	f("orders.mesh", 4096, true)
	f("nobody.mesh", 512, false)
	f("example.com", 0, true)
	if answer := ask(t, s, question("orders.mesh", mdns.TypeA), false); answer.IsEdns0() != nil {
		t.Error("EDNS in the answer to a query without")
	}
}

// 61: thousands of mutations of good messages; 62: what comes back over UDP is
// never more than an ordinary question brings, and for ANY close to nothing.
func TestMutations(t *testing.T) {
	s := newServer(manyInput(200))
	rng := rand.New(rand.NewSource(1))
	seeds := [][]byte{
		raw(1, 0x0100, 1, 0, 0, 0, ordersA), raw(1, 0, 1, 0, 0, 1, ordersA, opt),
		raw(1, 0, 1, 0, 0, 1, "\x04many\x07service\x04mesh\x00\x00\x21\x00\x01", "\x00\x00\x29\xff\xff\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x08abcdefgh"),
	}
	for range 4000 {
		msg := append([]byte{}, seeds[rng.Intn(len(seeds))]...)
		for range 1 + rng.Intn(6) {
			msg[rng.Intn(len(msg))] = byte(rng.Intn(256))
		}
		msg = msg[:len(msg)-rng.Intn(1+rng.Intn(len(msg)))]
		checkAnswer(t, msg, s.Answer(msg, false, nil))
	}
	for _, name := range []string{"many.service.mesh", "mesh", "orders.mesh"} {
		m := question(name, mdns.TypeANY)
		m.SetEdns0(65535, true)
		query := pack(t, m)
		if out := s.Answer(query, false, nil); len(out) > 3*len(query) {
			t.Errorf("ANY %s: %d bytes for %d", name, len(out), len(query))
		}
	}
}

// checkAnswer holds for the answer to any bytes over UDP.
func checkAnswer(t *testing.T, msg, out []byte) {
	t.Helper()
	if len(out) == 0 {
		if len(msg) >= headerSize && msg[2]&0x80 == 0 {
			t.Errorf("no answer to %x", msg)
		}
		return
	}
	answer := proper(t, out)
	if !answer.Response || len(out) > maxUDP || headerCount(out, 0) != headerCount(msg, 0) {
		t.Errorf("%x is answered by %x", msg, out)
	}
	if len(out) > minUDP && answer.IsEdns0() == nil {
		t.Errorf("%d bytes without EDNS", len(out))
	}
	if answer.Rcode == mdns.RcodeSuccess && answer.Authoritative && len(answer.Answer) == 0 && len(answer.Ns) == 0 && !answer.Truncated {
		t.Errorf("nothing, and no SOA: %x is answered by %v", msg, answer)
	}
}

func FuzzAnswer(f *testing.F) {
	s := newServer(manyInput(50))
	f.Add(raw(1, 0x0100, 1, 0, 0, 0, ordersA))
	f.Add(raw(1, 0, 1, 0, 0, 1, "\x04many\x07service\x04mesh\x00\x00\x21\x00\x01", opt))
	f.Add(raw(1, 0, 1, 1, 0, 1, ordersA, "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04abcd", opt))
	f.Add(raw(1, 0, 1, 0, 0, 0, "\x011\x010\x03128\x03127\x07in-addr\x04arpa\x00\x00\x0c\x00\x01"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		checkAnswer(t, msg, s.Answer(msg, false, nil))
		if out := s.Answer(msg, true, nil); len(out) > 0 {
			proper(t, out)
		}
	})
}
