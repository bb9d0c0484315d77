package dns

import (
	"encoding/binary"
	"math/rand/v2"

	mdns "github.com/miekg/dns"

	"github.com/meshd/meshd/dns/zone"
)

// Bits of the second word of a header.
const (
	flagAnswer        = 0x8000
	flagAuthoritative = 0x0400
	flagTruncated     = 0x0200
	flagRecurse       = 0x0100
)

// An answerer answers one message after another. It is for one goroutine.
type answerer struct {
	query query
}

// answer appends the answer to msg to dst, which it leaves as it is when there
// is none to be given. rcode is -1 then. unknown is the service that would have
// to be known better for the answer to be good.
func (a *answerer) answer(z *zone.Zone, msg []byte, tcp bool, dst []byte) (out []byte, rcode int, unknown string) {
	q := &a.query
	rcode, ok := q.parse(msg)
	if !ok {
		return dst, -1, ""
	}
	base := len(dst)
	out = append(dst, make([]byte, headerSize)...)
	out = append(out, q.question...)
	sec := zone.Sections{Rcode: rcode}
	switch {
	case rcode != mdns.RcodeSuccess:
	case z == nil:
		sec.Rcode = mdns.RcodeServerFailure // nothing is known yet, not even what does not exist
	default:
		out, sec = z.Append(out, base, q.name, q.qtype, q.limit(tcp), rand.Uint64())
	}
	if q.edns {
		out = appendOPT(out, sec.Rcode, q.dnssec)
		sec.Additional++
	}
	q.putHeader(out[base:], sec)
	return out, sec.Rcode, sec.Unknown
}

// limit is how long the answer may be without its OPT record.
func (q *query) limit(tcp bool) int {
	limit := q.udpSize
	if tcp {
		limit = mdns.MaxMsgSize - 1
	}
	if q.edns {
		limit -= optSize
	}
	return limit
}

func (q *query) putHeader(header []byte, sec zone.Sections) {
	flags := flagAnswer | q.opcode<<11 | sec.Rcode&15
	if sec.Authoritative {
		flags |= flagAuthoritative
	}
	if sec.Truncated {
		flags |= flagTruncated
	}
	if q.recurse {
		flags |= flagRecurse
	}
	questions := 0
	if q.question != nil {
		questions = 1
	}
	for i, n := range [...]int{int(q.id), flags, questions, sec.Answers, sec.Authority, sec.Additional} {
		binary.BigEndian.PutUint16(header[2*i:], uint16(n))
	}
}

func appendOPT(dst []byte, rcode int, dnssec bool) []byte {
	flags := byte(0)
	if dnssec {
		flags = 0x80
	}
	return append(dst, 0, 0, byte(mdns.TypeOPT), maxUDP>>8, maxUDP&0xFF, byte(rcode>>4), 0, flags, 0, 0, 0)
}
