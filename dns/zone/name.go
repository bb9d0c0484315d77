package zone

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
)

// maxName is the length of the longest name in wire form.
const maxName = 255

// wire gives labels and what they are below as a name in wire form, in lower
// case; ok is false when that is no name.
func wire(below []byte, labels ...string) (name []byte, ok bool) {
	for _, label := range labels {
		if label == "" || len(label) > 63 {
			return nil, false
		}
		name = append(name, byte(len(label)))
		name = append(name, lower(label)...)
	}
	name = append(name, below...)
	return name, len(name) <= maxName
}

// lower makes the letters lower case that DNS takes for the same: those of
// ASCII.
func lower(label string) string {
	b := []byte(label)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

var root = []byte{0}

// isBelow says whether a name in wire form is suffix or below it. The bytes of
// suffix at the end are not enough: they could lie within a label.
func isBelow(name, suffix []byte) bool {
	for len(name) > len(suffix) {
		name = parent(name)
	}
	return bytes.Equal(name, suffix)
}

// parent is what is left of a name without its first label.
func parent(name []byte) []byte { return name[1+int(name[0]):] }

// hexLabel is the label under addr that stands for an address: c0a80001.
func hexLabel(a netip.Addr) string { return hex.EncodeToString(a.AsSlice()) }

// reverse is the name below in-addr.arpa or ip6.arpa that stands for an address.
func reverse(a netip.Addr) []byte {
	if a.Is4() {
		return reverseOctets(a, 4)
	}
	const digits = "0123456789abcdef"
	labels := make([]string, 0, 34)
	b := a.As16()
	for i := 15; i >= 0; i-- {
		labels = append(labels, digits[b[i]&15:b[i]&15+1], digits[b[i]>>4:b[i]>>4+1])
	}
	name, _ := wire(root, append(labels, "ip6", "arpa")...)
	return name
}

// reverseOctets is the name below in-addr.arpa of the first n octets of a.
func reverseOctets(a netip.Addr, n int) []byte {
	b := a.As4()
	labels := make([]string, 0, 6)
	for i := n - 1; i >= 0; i-- {
		labels = append(labels, decimal(b[i]))
	}
	name, _ := wire(root, append(labels, "in-addr", "arpa")...)
	return name
}

func decimal(b byte) string { return string(appendDecimal(nil, b)) }

func appendDecimal(dst []byte, b byte) []byte {
	if b >= 100 {
		dst = append(dst, '0'+b/100)
	}
	if b >= 10 {
		dst = append(dst, '0'+b/10%10)
	}
	return append(dst, '0'+b%10)
}

var inAddrArpa = []byte("\x07in-addr\x04arpa\x00")

// reverseCut says how much of the end of a reverse name is the apex of a zone
// that covers it within the loopback range; 0 when none does. The range need
// not end between octets: /9 is the second halves of many zones of two octets.
func (z *Zone) reverseCut(name []byte) int {
	if !z.loopback.IsValid() || !isBelow(name, inAddrArpa) {
		return 0
	}
	octets := (z.loopback.Bits() + 7) / 8
	addr, ends, n := reverseParse(name[:len(name)-len(inAddrArpa)])
	if n < octets || !z.loopback.Contains(netip.AddrFrom4(addr)) {
		return 0
	}
	return ends[octets-1] + len(inAddrArpa)
}

// reverseParse reads the labels that stand before in-addr.arpa, of which the
// last is the first octet. ends are the lengths of the last 1, 2, … labels; n is
// how many octets there are from the end on.
func reverseParse(labels []byte) (addr [4]byte, ends [4]int, n int) {
	var starts [128]int
	count := 0
	for at := 0; at < len(labels); at += 1 + int(labels[at]) {
		if count == len(starts) {
			return addr, ends, 0
		}
		starts[count] = at
		count++
	}
	for n < 4 && n < count {
		at := starts[count-1-n]
		octet, ok := parseOctet(labels[at+1 : at+1+int(labels[at])])
		if !ok {
			break
		}
		addr[n], ends[n] = octet, len(labels)-at
		n++
	}
	return addr, ends, n
}

func parseOctet(label []byte) (byte, bool) {
	if len(label) == 0 || len(label) > 3 || len(label) > 1 && label[0] == '0' {
		return 0, false
	}
	n := 0
	for _, c := range label {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return byte(n), n <= 255
}

func appendUint16(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint16(dst, uint16(n))
}
