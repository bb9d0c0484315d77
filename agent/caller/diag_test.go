package caller

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestQueryEncode(t *testing.T) {
	f := func(q query, seq uint32, want string) {
		t.Helper()
		var b [unix.SizeofNlMsghdr + requestSize]byte
		q.encode(b[:], seq)
		if got := hex.EncodeToString(b[:]); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the expected bytes are those of a little-endian machine")
	}
	f(query{
		family: unix.AF_INET,
		local:  netip.MustParseAddrPort("127.0.0.1:50000"),
		peer:   netip.MustParseAddrPort("127.128.0.1:80"),
	}, 7, "48000000"+"1400"+"0100"+"07000000"+"00000000"+ // header
		"02060000"+"00000000"+"c350"+"0050"+
		"7f000001"+"000000000000000000000000"+"7f800001"+"000000000000000000000000"+
		"00000000"+"ffffffffffffffff")
	f(query{family: unix.AF_INET6, dump: true, states: 1 << stateListen, local: netip.AddrPortFrom(netip.Addr{}, 8080)},
		1, "48000000"+"1400"+"0103"+"01000000"+"00000000"+
			"0a060000"+"00040000"+"1f90"+"0000"+
			"00000000000000000000000000000000"+"00000000000000000000000000000000"+
			"00000000"+"ffffffffffffffff")
}

// message makes one netlink message.
func message(kind, flags uint16, seq uint32, body []byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	binary.NativeEndian.PutUint32(b, uint32(unix.SizeofNlMsghdr+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags)
	binary.NativeEndian.PutUint32(b[8:], seq)
	return append(b, body...)
}

// description makes the inet_diag_msg of an established socket.
func description(attrs ...[]byte) []byte {
	b := make([]byte, answerSize)
	b[0], b[1] = unix.AF_INET, stateEstablished
	binary.BigEndian.PutUint16(b[4:], 50000)
	binary.BigEndian.PutUint16(b[6:], 80)
	copy(b[8:], []byte{127, 0, 0, 1})
	copy(b[24:], []byte{127, 128, 0, 1})
	binary.NativeEndian.PutUint32(b[64:], 1000)
	binary.NativeEndian.PutUint32(b[68:], 77)
	for _, a := range attrs {
		b = append(b, a...)
	}
	return b
}

func attribute(kind uint16, value ...byte) []byte {
	b := make([]byte, unix.SizeofRtAttr, align(unix.SizeofRtAttr+len(value)))
	binary.NativeEndian.PutUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	b = append(b, value...)
	return b[:cap(b)]
}

func cgroupAttribute(id uint64) []byte {
	return attribute(attrCgroupID, binary.NativeEndian.AppendUint64(nil, id)...)
}

func TestParse(t *testing.T) {
	const seq = 5
	want := socket{
		state: stateEstablished, uid: 1000, inode: 77,
		local: netip.MustParseAddrPort("127.0.0.1:50000"), peer: netip.MustParseAddrPort("127.128.0.1:80"),
	}
	withGroup := want
	withGroup.cgroup, withGroup.hasCgroup = 4711, true
	whole := message(sockDiagByFamily, 0, seq, description(attribute(15, 1), cgroupAttribute(4711)))
	part := message(sockDiagByFamily, unix.NLM_F_MULTI, seq, description())

	f := func(name string, b []byte, more bool, wantErr string, sockets ...socket) {
		t.Helper()
		var got []socket
		gotMore, err := parse(b, seq, func(s socket) { got = append(got, s) })
		if (err == nil) != (wantErr == "") || err != nil && err.Error() != wantErr {
			t.Errorf("%s: error %v, want %q", name, err, wantErr)
		}
		if err == nil && gotMore != more {
			t.Errorf("%s: more = %t", name, gotMore)
		}
		if len(got) != len(sockets) {
			t.Fatalf("%s: got %+v, want %+v", name, got, sockets)
		}
		for i := range got {
			if got[i] != sockets[i] {
				t.Errorf("%s: got %+v, want %+v", name, got[i], sockets[i])
			}
		}
	}
	f("with a control group", whole, false, "", withGroup)
	f("without attributes", message(sockDiagByFamily, 0, seq, description()), false, "", want)
	f("group attribute of another size", message(sockDiagByFamily, 0, seq, description(attribute(attrCgroupID, 1, 2, 3, 4))), false, "", want)
	f("first part", part, true, "", want)
	f("parts and end", append(append([]byte{}, part...), message(unix.NLMSG_DONE, unix.NLM_F_MULTI, seq, make([]byte, 4))...), false, "", want)
	f("answer to an older question", message(sockDiagByFamily, 0, seq-1, description()), true, "")
	f("acknowledgement", message(unix.NLMSG_ERROR, 0, seq, make([]byte, 20)), false, "")
	f("nobody there", message(unix.NLMSG_ERROR, 0, seq, errno(unix.ENOENT)), false, "no such socket")
	f("refused", message(unix.NLMSG_ERROR, 0, seq, errno(unix.EPERM)), false, "socket diagnostics: operation not permitted")
	f("empty error", message(unix.NLMSG_ERROR, 0, seq, nil), false, "socket diagnostics: error message without an error")
	f("cut header", whole[:10], false, "socket diagnostics: 10 bytes are no message header")
	f("cut message", whole[:40], false, "socket diagnostics: message of 108 bytes in a datagram of 40")
	f("cut description", message(sockDiagByFamily, 0, seq, description()[:70]), false, "socket diagnostics: 70 bytes do not describe a socket")
	f("attribute too long", message(sockDiagByFamily, 0, seq, description([]byte{9, 0, 21, 0, 0})), false, "socket diagnostics: attribute of 9 bytes in 5")
}

func errno(e unix.Errno) []byte {
	return binary.NativeEndian.AppendUint32(nil, uint32(-int32(e)))
}

// FuzzParse checks that no answer can make the parser fail, loop or invent a
// control group that no attribute gave.
func FuzzParse(f *testing.F) {
	f.Add(message(sockDiagByFamily, 0, 1, description(cgroupAttribute(1))))
	f.Add(message(unix.NLMSG_DONE, unix.NLM_F_MULTI, 1, make([]byte, 4)))
	f.Add(message(unix.NLMSG_ERROR, 0, 1, errno(unix.ENOENT)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		visited := 0
		parse(b, 1, func(s socket) {
			visited++
			if !s.hasCgroup && s.cgroup != 0 {
				t.Error("a control group from nowhere")
			}
		})
		if visited > len(b)/answerSize {
			t.Errorf("%d sockets in %d bytes", visited, len(b))
		}
	})
}
