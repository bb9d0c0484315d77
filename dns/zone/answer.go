package zone

import (
	"encoding/binary"

	mdns "github.com/miekg/dns"
)

// Sections is what an answer consists of behind the question.
type Sections struct {
	Rcode         int
	Authoritative bool // unset when the name is none of the zone's
	Truncated     bool // something was left out
	Answers       int
	Authority     int
	Additional    int
	// Unknown names the service that would have to be known better for the answer
	// to be good: it is worth while to wait for that and ask again.
	Unknown string
}

// Append adds what the zone says about a name and type to a message. msg[base:]
// is the message so far, its question the last thing in it; name is the name of
// the question in wire form and lower case. The message stays within limit
// bytes. seed chooses the order of records whose order has no meaning.
func (z *Zone) Append(msg []byte, base int, name []byte, qtype uint16, limit int, seed uint64) ([]byte, Sections) {
	n := z.names[string(name)]
	if n == nil {
		return z.absent(msg, base, name, limit)
	}
	n.touch()
	if n.nameless {
		return msg, Sections{Rcode: mdns.RcodeServerFailure, Unknown: n.unknown}
	}
	sec := Sections{Rcode: mdns.RcodeSuccess, Authoritative: true, Unknown: n.unknown}
	switch s := n.find(qtype); {
	case s != nil:
		return s.append(msg, base, limit, seed, sec)
	case qtype == mdns.TypeANY && len(n.sets) > 0:
		sec.Answers = 1
		return append(msg, minimalANY...), sec
	}
	return z.authority(msg, base, name, n.cut, limit, sec)
}

// minimalANY answers a question for everything as RFC 8482 has it: what nobody
// needs would make the answer a weapon.
var minimalANY = appendRecord(nil, mdns.TypeHINFO, ttlStable, []byte("\x07RFC8482\x00"))

func (z *Zone) absent(msg []byte, base int, name []byte, limit int) ([]byte, Sections) {
	cut := z.reverseCut(name)
	if isBelow(name, z.domain) {
		cut = len(z.domain)
	}
	if cut == 0 {
		return msg, Sections{Rcode: mdns.RcodeRefused}
	}
	if above := z.names[string(parent(name))]; above != nil && above.nameless {
		return msg, Sections{Rcode: mdns.RcodeServerFailure, Unknown: above.unknown} // a tag, perhaps
	}
	return z.authority(msg, base, name, cut, limit, Sections{Rcode: mdns.RcodeNameError, Authoritative: true})
}

// authority adds the SOA that a negative answer carries; its owner is a pointer
// to the end of the question's name.
func (z *Zone) authority(msg []byte, base int, name []byte, cut, limit int, sec Sections) ([]byte, Sections) {
	if len(msg)-base+2+len(z.soa) > limit {
		sec.Truncated = true
		return msg, sec
	}
	sec.Authority = 1
	msg = appendUint16(msg, 0xC000|headerSize+len(name)-cut)
	return append(msg, z.soa...), sec
}

// append adds as many units as fit, in the order that seed gives, then the
// addresses of their targets.
func (s *set) append(msg []byte, base, limit int, seed uint64, sec Sections) ([]byte, Sections) {
	order := s.order(seed)
	start := len(msg)
	for i := range s.units {
		u := &s.units[order.at(i)]
		if len(msg)-base+len(s.records(u)) > limit {
			sec.Truncated = true
			return msg, sec
		}
		msg = append(msg, s.records(u)...)
		sec.Answers += int(u.count)
	}
	return s.appendGlue(msg, base, start, limit, order, sec)
}

// appendGlue adds addresses whose owners are pointers to the targets in the
// records that begin at start.
func (s *set) appendGlue(msg []byte, base, start, limit int, order order, sec Sections) ([]byte, Sections) {
	at := start - base
	for i := range s.units {
		u := &s.units[order.at(i)]
		target := at + int(u.target)
		at += len(s.records(u))
		if u.glue == u.end {
			continue
		}
		if len(msg)-base+2+len(s.glue(u)) > limit || target > 0x3FFF {
			sec.Truncated = limit <= maxDatagram
			return msg, sec
		}
		msg = binary.BigEndian.AppendUint16(msg, 0xC000|uint16(target))
		msg = append(msg, s.glue(u)...)
		sec.Additional++
	}
	return msg, sec
}

// maxDatagram is above the limit of any answer over UDP. Over TCP nothing larger
// could be asked for, and the addresses left out have names of their own.
const maxDatagram = 4096

// An order goes through n units once each, from a start and in strides that
// differ from answer to answer, so that the load of an endpoint that is gone
// falls to different neighbours.
type order struct{ n, start, stride uint32 }

func (s *set) order(seed uint64) order {
	n := uint32(len(s.units))
	if !s.rotate {
		return order{n, 0, 1}
	}
	stride := uint32(seed>>32)%n | 1
	for gcd(stride, n) != 1 {
		stride += 2
	}
	return order{n, uint32(seed) % n, stride % n}
}

func (o order) at(i int) int {
	if o.stride == 1 {
		at := o.start + uint32(i)
		if at >= o.n {
			at -= o.n
		}
		return int(at)
	}
	return int((uint64(o.start) + uint64(i)*uint64(o.stride)) % uint64(o.n))
}

func gcd(a, b uint32) uint32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
