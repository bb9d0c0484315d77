package hpack

// A table is a dynamic table. Entries have numbers, from 1 for the first that
// was ever added.
type table struct {
	max     int // by name, value and overhead of entries
	size    int
	ring    []entry // as long as a power of two
	last    uint64  // number of the newest
	count   int
	bytes   []byte // of names and values
	dropped uint64 // bytes that stood before these
}

// An entry is one field.
type entry struct {
	at          uint64 // of the name, from the first byte ever added
	name, value int    // lengths

	// For the encoder: hashes, and the entries before it in their chains.
	hash   [2]uint64
	before [2]uint64
}

// oldest is the number of the oldest entry.
func (t *table) oldest() uint64 { return t.last - uint64(t.count) + 1 }

// entry gives the entry of a number that is in the table.
func (t *table) entry(number uint64) *entry { return &t.ring[number&uint64(len(t.ring)-1)] }

// name gives an entry's name, valid until the next add.
func (t *table) name(e *entry) []byte {
	at := int(e.at - t.dropped)
	return t.bytes[at : at+e.name]
}

// value gives an entry's value, valid until the next add.
func (t *table) value(e *entry) []byte {
	at := int(e.at-t.dropped) + e.name
	return t.bytes[at : at+e.value]
}

// resize sets how large the table may be.
func (t *table) resize(most int) {
	t.max = most
	t.evict(0)
}

// evict makes room.
func (t *table) evict(room int) {
	for t.count > 0 && t.size+room > t.max {
		e := t.entry(t.oldest())
		t.size -= e.name + e.value + overhead
		t.count--
	}
}

// add adds a field, for which older ones may have to leave. One that is larger
// than the table empties it, and nil is returned. name and value must not be of
// the table.
func (t *table) add(name, value []byte) *entry {
	need := len(name) + len(value) + overhead
	t.evict(need)
	if need > t.max {
		return nil
	}
	if t.count == len(t.ring) {
		t.grow()
	}
	t.compact(len(name) + len(value))
	at := t.dropped + uint64(len(t.bytes))
	t.bytes = append(append(t.bytes, name...), value...)
	t.last++
	t.count++
	t.size += need
	e := t.entry(t.last)
	*e = entry{at: at, name: len(name), value: len(value)}
	return e
}

func (t *table) grow() {
	old := *t
	t.ring = make([]entry, max(16, 2*len(old.ring)))
	for n := old.oldest(); n <= old.last && old.count > 0; n++ {
		*t.entry(n) = *old.entry(n)
	}
}

// compact moves entries to the front when there would be more bytes than twice
// the table's size: seldom enough to cost little.
func (t *table) compact(more int) {
	if len(t.bytes)+more <= 2*t.max {
		return
	}
	live := t.dropped + uint64(len(t.bytes))
	if t.count > 0 {
		live = t.entry(t.oldest()).at
	}
	n := copy(t.bytes, t.bytes[live-t.dropped:])
	t.bytes, t.dropped = t.bytes[:n], live
}
