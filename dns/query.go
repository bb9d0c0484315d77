package dns

import (
	"encoding/binary"

	mdns "github.com/miekg/dns"
)

const (
	headerSize = 12
	maxName    = 255
	// maxUDP is the most that is sent over UDP, whatever the client takes: what
	// passes through every network unfragmented.
	maxUDP = 1232
	// minUDP is what every client takes.
	minUDP = 512
	// optSize is the size of the OPT record of an answer.
	optSize = 11
)

// A query is a message that was understood.
type query struct {
	id       uint16
	opcode   int
	recurse  bool // RD, which an answer repeats
	question []byte
	name     []byte // of the question, in wire form and lower case
	qtype    uint16
	qclass   uint16
	edns     bool
	dnssec   bool // DO, which an answer repeats
	udpSize  int  // that the client takes
	version  byte // of EDNS
	buffer   [maxName]byte
}

// parse reads a message. ok is false when it is to be left without an answer:
// it is no question, or too short to have one sent back. rcode says why else it
// cannot be answered; question is set as far as it was understood.
func (q *query) parse(msg []byte) (rcode int, ok bool) {
	*q = query{udpSize: minUDP}
	if len(msg) < headerSize {
		return 0, false
	}
	flags := binary.BigEndian.Uint16(msg[2:])
	if flags&0x8000 != 0 { // an answer: to answer it could go on for ever
		return 0, false
	}
	q.id = binary.BigEndian.Uint16(msg)
	q.opcode = int(flags >> 11 & 15)
	q.recurse = flags&0x0100 != 0
	if q.opcode != mdns.OpcodeQuery {
		return mdns.RcodeNotImplemented, true
	}
	rest, ok := q.parseQuestion(msg)
	if !ok {
		return mdns.RcodeFormatError, true
	}
	return q.parseRest(msg, rest), true
}

// parseQuestion reads the one question that a query has, and gives where it
// ends.
func (q *query) parseQuestion(msg []byte) (end int, ok bool) {
	if binary.BigEndian.Uint16(msg[4:]) != 1 {
		return 0, false
	}
	end = headerSize
	for {
		if end >= len(msg) {
			return 0, false
		}
		label := int(msg[end])
		next := end + 1 + label
		// 64 and above would be a pointer, which has nothing to point to here.
		if label > 63 || next > len(msg) || next-headerSize > maxName {
			return 0, false
		}
		end = next
		if label == 0 {
			break
		}
	}
	if end+4 > len(msg) {
		return 0, false
	}
	q.name = q.buffer[:copy(q.buffer[:], msg[headerSize:end])]
	lower(q.name)
	q.qtype = binary.BigEndian.Uint16(msg[end:])
	q.qclass = binary.BigEndian.Uint16(msg[end+2:])
	q.question = msg[headerSize : end+4]
	return end + 4, true
}

// lower makes the letters of a name lower case. The lengths of labels are below
// 64, and so no letters.
func lower(name []byte) {
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			name[i] = c + 'a' - 'A'
		}
	}
}

// parseRest reads what follows the question: nothing or an OPT record, as good
// as always.
func (q *query) parseRest(msg []byte, at int) (rcode int) {
	counts := binary.BigEndian.Uint64(msg[4:]) & 0xFFFFFFFFFFFF
	switch {
	case counts == 0 && at == len(msg):
		return q.check()
	case counts == 1 && len(msg)-at >= optSize && msg[at] == 0 && binary.BigEndian.Uint16(msg[at+1:]) == mdns.TypeOPT:
		if !q.parseOPT(msg[at+1:]) {
			return mdns.RcodeFormatError
		}
		return q.check()
	}
	return q.parseUnusual(msg)
}

// parseOPT reads an OPT record behind its owner, the last thing in a message.
func (q *query) parseOPT(opt []byte) bool {
	length := int(binary.BigEndian.Uint16(opt[8:]))
	options := opt[10:]
	if len(options) != length {
		return false
	}
	for len(options) > 0 {
		if len(options) < 4 {
			return false
		}
		next := 4 + int(binary.BigEndian.Uint16(options[2:]))
		if next > len(options) {
			return false
		}
		options = options[next:]
	}
	q.setEDNS(binary.BigEndian.Uint16(opt[2:]), opt[5], opt[6]&0x80 != 0)
	return true
}

func (q *query) setEDNS(size uint16, version byte, dnssec bool) {
	q.edns, q.version, q.dnssec = true, version, dnssec
	q.udpSize = min(max(int(size), minUDP), maxUDP)
}

// parseUnusual lets the library judge messages with records that questions
// rarely have.
func (q *query) parseUnusual(msg []byte) (rcode int) {
	var m mdns.Msg
	if recordsEnd(msg) != len(msg) || m.Unpack(msg) != nil {
		return mdns.RcodeFormatError
	}
	for _, rr := range m.Extra {
		switch rr := rr.(type) {
		case *mdns.OPT:
			if q.edns || rr.Hdr.Name != "." {
				return mdns.RcodeFormatError
			}
			q.setEDNS(rr.UDPSize(), rr.Version(), rr.Do())
		case *mdns.TSIG, *mdns.SIG:
			return mdns.RcodeRefused // there are no keys to sign an answer with
		}
	}
	return q.check()
}

// recordsEnd is where the last record of a message ends whose question is in
// order, or -1 when one is cut off. What comes after it would be read by some
// and not by others.
func recordsEnd(msg []byte) int {
	at := nameEnd(msg, headerSize) + 4
	for n := headerCount(msg, 6) + headerCount(msg, 8) + headerCount(msg, 10); n > 0; n-- {
		at = nameEnd(msg, at)
		if at < 0 || at+10 > len(msg) {
			return -1
		}
		at += 10 + headerCount(msg, at+8)
		if at > len(msg) {
			return -1
		}
	}
	return at
}

func headerCount(msg []byte, at int) int { return int(binary.BigEndian.Uint16(msg[at:])) }

// nameEnd is where the name at at ends, or -1.
func nameEnd(msg []byte, at int) int {
	for at < len(msg) {
		switch label := int(msg[at]); {
		case label == 0:
			return at + 1
		case label >= 0xC0:
			return at + 2
		case label > 63:
			return -1
		default:
			at += 1 + label
		}
	}
	return -1
}

// check refuses questions that are well formed and not for a zone to answer.
func (q *query) check() (rcode int) {
	switch {
	case q.edns && q.version != 0:
		return mdns.RcodeBadVers
	case q.qclass != mdns.ClassINET:
		return mdns.RcodeRefused
	}
	switch q.qtype {
	case mdns.TypeAXFR, mdns.TypeIXFR, mdns.TypeTKEY, mdns.TypeTSIG:
		return mdns.RcodeRefused
	case mdns.TypeMAILA, mdns.TypeMAILB:
		return mdns.RcodeNotImplemented
	case mdns.TypeNone, mdns.TypeOPT:
		return mdns.RcodeFormatError
	}
	return mdns.RcodeSuccess
}
