package hpack

// An Encoder writes the field blocks of one direction of a connection.
//
// A field enters the table the second time that it is seen, so that what is
// different in each request pushes nothing out. Only what enters the table is
// Huffman-coded: it is sent once, and everything else again and again.
type Encoder struct {
	table  table
	most   int // how large the table may be at all
	want   int // how large it should be
	lowest int // how small the peer has wanted it since the last block
	chains [2][buckets]uint64
	seen   [128]uint32
}

// Chains of entries: of those with the same name, and with the same value, too.
const (
	byName = iota
	byPair
)

// NewEncoder makes an Encoder that uses at most that size of what its peer
// allows.
func NewEncoder(most int) *Encoder {
	e := &Encoder{most: most, want: DefaultTableSize, lowest: DefaultTableSize}
	e.table.max = DefaultTableSize
	e.Allow(DefaultTableSize)
	return e
}

// Allow says how large the peer lets the table be.
func (e *Encoder) Allow(size int) {
	e.want = min(size, e.most)
	e.lowest = min(e.lowest, e.want)
}

// Begin appends what stands in front of a field block. It must be called for
// each.
func (e *Encoder) Begin(dst []byte) []byte {
	if e.lowest < e.table.max && e.lowest < e.want {
		dst = e.resize(dst, e.lowest)
	}
	if e.want != e.table.max {
		dst = e.resize(dst, e.want)
	}
	e.lowest = e.want
	return dst
}

func (e *Encoder) resize(dst []byte, size int) []byte {
	e.table.resize(size)
	return appendInteger(dst, 0x20, 5, uint64(size))
}

// Append appends a field, whose name must be in lower case. What is sensitive
// enters no table on the way.
func (e *Encoder) Append(dst, name, value []byte, sensitive bool) []byte {
	hash := hashName(name)
	index, whole := findStatic(name, value, hash)
	if whole {
		return appendInteger(dst, 0x80, 7, index)
	}
	pair := hashPair(hash, value)
	if !sensitive {
		if n := e.find(byPair, pair, name, value); n > 0 {
			return appendInteger(dst, 0x80, 7, e.index(n))
		}
	}
	if index == 0 {
		if n := e.find(byName, hash, name, nil); n > 0 {
			index = e.index(n)
		}
	}
	switch {
	case sensitive:
		return appendLiteral(dst, 0x10, 4, index, name, value, false)
	case !e.admit(pair, len(name)+len(value)):
		return appendLiteral(dst, 0, 4, index, name, value, false)
	}
	dst = appendLiteral(dst, 0x40, 6, index, name, value, true)
	e.add(name, value, hash, pair)
	return dst
}

func (e *Encoder) index(number uint64) uint64 {
	return uint64(len(static)) + e.table.last - number
}

// find gives the number of an entry, or 0.
func (e *Encoder) find(chain int, hash uint64, name, value []byte) uint64 {
	t := &e.table
	for n := e.chains[chain][hash%buckets]; n > 0 && n >= t.oldest() && t.count > 0; n = t.entry(n).before[chain] {
		x := t.entry(n)
		if x.hash[chain] == hash && string(t.name(x)) == string(name) && (chain == byName || string(t.value(x)) == string(value)) {
			return n
		}
	}
	return 0
}

// admit reports whether a field is worth a place in the table.
func (e *Encoder) admit(pair uint64, size int) bool {
	if 4*(size+overhead) > e.table.max {
		return false
	}
	slot, mark := &e.seen[pair%uint64(len(e.seen))], uint32(pair>>32)
	if *slot != mark {
		*slot = mark
		return false
	}
	return true
}

func (e *Encoder) add(name, value []byte, hash, pair uint64) {
	x := e.table.add(name, value)
	x.hash = [2]uint64{hash, pair}
	for chain, h := range x.hash {
		head := &e.chains[chain][h%buckets]
		x.before[chain], *head = *head, e.table.last
	}
}

func appendLiteral(dst []byte, first byte, prefix uint, index uint64, name, value []byte, coded bool) []byte {
	dst = appendInteger(dst, first, prefix, index)
	if index == 0 {
		dst = appendText(dst, name, coded)
	}
	return appendText(dst, value, coded)
}

func appendText(dst, s []byte, coded bool) []byte {
	if coded {
		if n := huffmanLength(s); n < len(s) {
			return appendHuffman(appendInteger(dst, 0x80, 7, uint64(n)), s)
		}
	}
	return append(appendInteger(dst, 0, 7, uint64(len(s))), s...)
}
