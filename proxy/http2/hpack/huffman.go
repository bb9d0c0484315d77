package hpack

// The Huffman code of RFC 7541, appendix B, is canonical: lengths say it all.
// Codes of one length are consecutive in the order of their symbols, and go on
// from those of the length before.

const (
	eos     = 256 // the symbol that stands for the end and is never sent
	maxBits = 30
)

var lengths = [eos + 1]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
	28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
	21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
	19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
	26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
	30,
}

// A code is the bits of one symbol.
type code struct {
	bits   uint32
	length uint8
}

// A tier is the codes of one length, aligned to the left of 32 bits.
type tier struct {
	first, end uint64
	symbols    []uint16
}

var codes, tiers = func() (c [eos + 1]code, t [maxBits + 1]tier) {
	next := uint64(0)
	for n := 1; n <= maxBits; n++ {
		t[n].first = next
		for s, l := range lengths {
			if int(l) == n {
				c[s] = code{uint32(next >> (32 - n)), l}
				t[n].symbols = append(t[n].symbols, uint16(s))
				next += 1 << (32 - n)
			}
		}
		t[n].end = next
	}
	return c, t
}()

// A step is what the next eight bits begin with, if that is a short code.
type step struct{ symbol, length uint8 }

var steps = func() (t [256]step) {
	for s, c := range codes[:eos] {
		if c.length > 8 {
			continue
		}
		spare := 8 - c.length
		for i := range 1 << spare {
			t[c.bits<<spare|uint32(i)] = step{uint8(s), c.length}
		}
	}
	return t
}()

// huffmanLength is the length of a string in Huffman code.
func huffmanLength(s []byte) int {
	n := 0
	for _, c := range s {
		n += int(lengths[c])
	}
	return (n + 7) / 8
}

func appendHuffman(dst, s []byte) []byte {
	var held uint64
	var n uint8
	for _, c := range s {
		k := codes[c]
		held, n = held<<k.length|uint64(k.bits), n+k.length
		for n >= 8 {
			n -= 8
			dst = append(dst, byte(held>>n))
		}
	}
	if n > 0 {
		spare := 8 - n
		dst = append(dst, byte(held<<spare)|byte(1<<spare-1))
	}
	return dst
}

// appendDecoded appends what a Huffman-coded string stands for.
func appendDecoded(dst, s []byte) ([]byte, error) {
	var held uint64 // the last n bits
	var n uint
	for {
		for n <= 56 && len(s) > 0 {
			held, n = held<<8|uint64(s[0]), n+8
			s = s[1:]
		}
		symbol, length := nextSymbol(window(held, n))
		if length > n {
			break
		}
		if symbol == eos {
			return dst, errHuffman
		}
		dst = append(dst, byte(symbol))
		n -= length
	}
	// What is left is the beginning of eos, less than a byte of it.
	if n >= 8 || ^held&(1<<n-1) != 0 {
		return dst, errHuffman
	}
	return dst, nil
}

// window is the next 32 bits, ones if there are none.
func window(held uint64, n uint) uint32 {
	if n >= 32 {
		return uint32(held >> (n - 32))
	}
	return uint32(held<<(32-n)) | uint32(1<<(32-n)-1)
}

func nextSymbol(w uint32) (symbol uint16, length uint) {
	if s := steps[w>>24]; s.length > 0 {
		return uint16(s.symbol), uint(s.length)
	}
	n := uint(9)
	for uint64(w) >= tiers[n].end {
		n++
	}
	return tiers[n].symbols[(uint64(w)-tiers[n].first)>>(32-n)], n
}
