package zone

import (
	"encoding/binary"
	"net/netip"

	mdns "github.com/miekg/dns"
)

// A set holds all records of one name and type, ready to be copied behind the
// question: their owner is a pointer to the name in it, and so has the spelling
// that the client chose.
type set struct {
	qtype uint16
	data  []byte
	units []unit
	// rotate says that the order carries no meaning and is to differ from
	// answer to answer.
	rotate bool
}

// A unit is a part of a set that is given whole or not at all: one record, or
// the SRV records of one target with the target's address.
type unit struct {
	start, end uint32 // in data
	count      uint16 // records in it
	// target is where, in the unit, the name stands that glue is about.
	target uint16
	// glue is the end in data of the address record of the target, without its
	// owner; it begins at end. Equal to end when there is none.
	glue uint32
}

func (s *set) records(u *unit) []byte { return s.data[u.start:u.end] }
func (s *set) glue(u *unit) []byte    { return s.data[u.end:u.glue] }

// add appends a unit of count records, and the glue of the name at target.
func (s *set) add(records []byte, count int, glue []byte, target int) {
	u := unit{start: uint32(len(s.data)), count: uint16(count), target: uint16(target)}
	s.data = append(s.data, records...)
	u.end = uint32(len(s.data))
	s.data = append(s.data, glue...)
	u.glue = uint32(len(s.data))
	s.units = append(s.units, u)
}

// toQuestion is a pointer to the name of the question, which begins right after
// the header.
const toQuestion = 0xC000 | headerSize

const headerSize = 12

// appendRecord adds a record whose owner is the name of the question.
func appendRecord(dst []byte, rtype uint16, ttl uint32, rdata []byte) []byte {
	return appendBody(appendUint16(dst, toQuestion), rtype, ttl, rdata)
}

// appendBody adds what follows a record's owner.
func appendBody(dst []byte, rtype uint16, ttl uint32, rdata []byte) []byte {
	dst = appendUint16(dst, int(rtype))
	dst = appendUint16(dst, mdns.ClassINET)
	dst = binary.BigEndian.AppendUint32(dst, ttl)
	dst = appendUint16(dst, len(rdata))
	return append(dst, rdata...)
}

// addressType is the type of record that holds an address.
func addressType(a netip.Addr) uint16 {
	if a.Is4() {
		return mdns.TypeA
	}
	return mdns.TypeAAAA
}

// srvTarget is where the target stands in an SRV record with a compressed owner.
const srvTarget = 2 + 10 + 6

func srvData(weight uint32, port uint16, target []byte) []byte {
	data := appendUint16(nil, 1) // priority: all alike
	data = appendUint16(data, int(min(max(weight, 1), 65535)))
	data = appendUint16(data, int(port))
	return append(data, target...)
}

// soaData is the SOA's content. Secondary servers have no part in a mesh: the
// times are the customary ones.
func soaData(primary, mailbox []byte, serial uint32) []byte {
	data := append(append([]byte{}, primary...), mailbox...)
	for _, n := range []uint32{serial, 3600, 600, 86400, ttlNegative} {
		data = binary.BigEndian.AppendUint32(data, n)
	}
	return data
}
