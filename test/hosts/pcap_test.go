package hosts

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

// A flow is one direction of a TCP connection.
type flow struct {
	from, to uint16 // ports
	first    uint32 // sequence number of the first byte
	begun    bool   // whether the SYN was captured
	segments []segment
}

type segment struct {
	offset uint32
	data   []byte
}

// flows takes a capture of Ethernet frames apart, by the format of pcap files
// (little-endian, as tcpdump writes them here).
func flows(capture []byte) ([]*flow, error) {
	const header, perFrame = 24, 16
	if len(capture) < header || binary.LittleEndian.Uint32(capture) != 0xa1b2c3d4 || binary.LittleEndian.Uint32(capture[20:]) != 1 {
		return nil, errors.New("this is no capture of Ethernet frames")
	}
	var all []*flow
	byPeers := map[string]*flow{}
	for rest := capture[header:]; len(rest) >= perFrame; {
		n := int(binary.LittleEndian.Uint32(rest[8:]))
		if rest = rest[perFrame:]; len(rest) < n {
			break
		}
		if f := addFrame(byPeers, rest[:n]); f != nil {
			all = append(all, f)
		}
		rest = rest[n:]
	}
	return all, nil
}

// addFrame adds what a frame carries to its flow, and returns a new one.
func addFrame(byPeers map[string]*flow, frame []byte) *flow {
	const ethernet, ipv4, tcp, syn = 14, 0x0800, 6, 2
	if len(frame) < ethernet+40 || binary.BigEndian.Uint16(frame[12:]) != ipv4 || frame[ethernet+9] != tcp {
		return nil
	}
	ip := frame[ethernet:]
	ip = ip[:min(len(ip), int(binary.BigEndian.Uint16(ip[2:])))] // without the frame's padding
	t := ip[int(ip[0]&15)*4:]
	key := string(ip[12:20]) + string(t[:4])
	sequence := binary.BigEndian.Uint32(t[4:])
	f, known := byPeers[key]
	if !known || t[13]&syn != 0 {
		f = &flow{from: binary.BigEndian.Uint16(t), to: binary.BigEndian.Uint16(t[2:]), first: sequence}
		if f.begun = t[13]&syn != 0; f.begun {
			f.first++
		}
		byPeers[key] = f
		known = false
	}
	if data := t[int(t[12]>>4)*4:]; len(data) > 0 {
		f.segments = append(f.segments, segment{sequence - f.first, data})
	}
	if known {
		return nil
	}
	return f
}

// stream is what the flow carried up to the first gap.
func (f *flow) stream() (out []byte) {
	slices.SortStableFunc(f.segments, func(a, b segment) int { return cmp.Compare(a.offset, b.offset) })
	for _, s := range f.segments {
		at := uint32(len(out))
		if s.offset > at {
			break
		}
		if again := at - s.offset; int(again) < len(s.data) {
			out = append(out, s.data[again:]...)
		}
	}
	return out
}

// A record is one of the TLS record layer.
type record struct {
	kind    byte
	version uint16
	body    []byte
}

const (
	handshakeRecord   = 22
	applicationRecord = 23
)

// records takes the complete records of a stream apart, and fails where it is
// not TLS.
func records(stream []byte) (all []record, err error) {
	for len(stream) >= 5 {
		n := int(binary.BigEndian.Uint16(stream[3:]))
		r := record{kind: stream[0], version: binary.BigEndian.Uint16(stream[1:])}
		if r.kind < 20 || r.kind > 23 || r.version>>8 != 3 {
			return all, errors.New("this is no TLS record")
		}
		if len(stream) < 5+n {
			break
		}
		r.body, stream = stream[5:5+n], stream[5+n:]
		all = append(all, r)
	}
	return all, nil
}

// selected is the TLS version that a ServerHello settles on; 0 if the record is
// none.
func (r record) selected() uint16 {
	const serverHello, supportedVersions = 2, 43
	if r.kind != handshakeRecord || len(r.body) < 39 || r.body[0] != serverHello {
		return 0
	}
	legacy := binary.BigEndian.Uint16(r.body[4:])
	rest := r.body[38:]
	skip := 1 + int(rest[0]) + 2 + 1 + 2 // session, cipher suite, compression, length of extensions
	for len(rest) >= skip+6 {
		rest = rest[skip:]
		if binary.BigEndian.Uint16(rest) == supportedVersions {
			return binary.BigEndian.Uint16(rest[4:])
		}
		skip = 4 + int(binary.BigEndian.Uint16(rest[2:]))
	}
	return legacy
}

func TestRecords(t *testing.T) {
	f := func(stream string, kinds []byte, wantError bool) {
		t.Helper()
		all, err := records([]byte(stream))
		var got []byte
		for _, r := range all {
			got = append(got, r.kind)
		}
		if !slices.Equal(got, kinds) || (err != nil) != wantError {
			t.Errorf("%q has records of kinds %d, error %v; want %d", stream, got, err, kinds)
		}
	}
	f("", nil, false)
	f("GET / HTTP/1.1\r\n", nil, true)
	f("\x16\x03\x01\x00\x01a\x17\x03\x03\x00\x02bc", []byte{handshakeRecord, applicationRecord}, false)
	f("\x17\x03\x03\x00\x02bcGET / HTTP/1.1", []byte{applicationRecord}, true)
	f("\x17\x03\x03\x00\x02b", nil, false)
}

func TestSelected(t *testing.T) {
	f := func(extensions string, want uint16) {
		t.Helper()
		hello := "\x02\x00\x00\x00\x03\x03" + strings.Repeat("r", 32) + "\x02id\x13\x01\x00\x00\x00" + extensions
		if got := (record{kind: handshakeRecord, body: []byte(hello)}).selected(); got != want {
			t.Errorf("a hello with %q selects %#x, want %#x", extensions, got, want)
		}
	}
	f("", 0x0303)
	f("\x00\x2b\x00\x02\x03\x04", 0x0304)
	f("\x00\x10\x00\x01a\x00\x2b\x00\x02\x03\x04", 0x0304)
	f("\x00\x10\x00\x01a", 0x0303)
}
