package hpack

// A Decoder reads the field blocks of one direction of a connection.
type Decoder struct {
	limits Limits
	table  table
	agreed int // how large the peer may make the table
}

// NewDecoder makes a Decoder for a peer that was told a size of the table, or
// nothing but the default.
func NewDecoder(tableSize int, limits Limits) *Decoder {
	d := &Decoder{limits: limits, agreed: max(tableSize, DefaultTableSize)}
	d.table.max = DefaultTableSize
	return d
}

// A Block is a field block once it is decoded. It can be used again for the next
// one.
type Block struct {
	Fields []Field
	// TooLarge says that limits were exceeded, so that fields are missing.
	TooLarge bool

	bytes []byte
	size  int
}

// Reset forgets the fields.
func (b *Block) Reset() { *b = Block{Fields: b.Fields[:0], bytes: b.bytes[:0]} }

// Decode adds the fields of a whole field block. After an error the connection
// cannot go on. A block that is too large is no error, but has fewer fields.
func (d *Decoder) Decode(raw []byte, into *Block) (err error) {
	if raw, err = d.updates(raw); err != nil {
		return err
	}
	for len(raw) > 0 {
		if raw, err = d.field(raw, into); err != nil {
			return err
		}
	}
	return nil
}

// updates takes changes of the table's size, which stand in front: one to the
// smallest since the last block, and one to the present.
func (d *Decoder) updates(raw []byte) ([]byte, error) {
	for n := 0; len(raw) > 0 && raw[0]>>5 == 1; n++ {
		size, rest, err := integer(raw, 5)
		switch {
		case err != nil:
			return nil, err
		case n == 2:
			return nil, errUpdate
		case int(size) > d.agreed:
			return nil, errTooWide
		}
		d.table.resize(int(size))
		raw = rest
	}
	return raw, nil
}

// field takes one field, by the bits it begins with.
func (d *Decoder) field(raw []byte, into *Block) ([]byte, error) {
	switch first := raw[0]; {
	case first >= 0x80:
		return d.indexed(raw, into)
	case first >= 0x40:
		return d.literal(raw, 6, true, false, into)
	case first >= 0x20:
		return nil, errUpdate
	default:
		return d.literal(raw, 4, false, first >= 0x10, into)
	}
}

func (d *Decoder) indexed(raw []byte, into *Block) ([]byte, error) {
	index, rest, err := integer(raw, 7)
	if err != nil {
		return nil, err
	}
	name, value, ok := d.lookup(index)
	if !ok {
		return nil, errIndex
	}
	if into.fits(len(name), len(value), d.limits) {
		start := len(into.bytes)
		into.bytes = append(append(into.bytes, name...), value...)
		into.add(start, len(name), false)
	}
	return rest, nil
}

// lookup gives the field of an index. What it gives is valid until the table
// changes.
func (d *Decoder) lookup(index uint32) (name, value []byte, ok bool) {
	if index < uint32(len(static)) {
		f := &static[index]
		return f.name, f.value, index > 0
	}
	back := uint64(index) - uint64(len(static))
	if back >= uint64(d.table.count) {
		return nil, nil, false
	}
	e := d.table.entry(d.table.last - back)
	return d.table.name(e), d.table.value(e), true
}

// literal takes a field whose value is in the block, and perhaps its name, too.
// It is decoded even if there is no room for it, since the table may need it.
func (d *Decoder) literal(raw []byte, prefix uint, keep, sensitive bool, into *Block) ([]byte, error) {
	index, raw, err := integer(raw, prefix)
	if err != nil {
		return nil, err
	}
	start := len(into.bytes)
	if index > 0 {
		name, _, ok := d.lookup(index)
		if !ok {
			return nil, errIndex
		}
		into.bytes = append(into.bytes, name...)
	} else if raw, err = into.text(raw); err != nil {
		return nil, err
	}
	n := len(into.bytes) - start
	if raw, err = into.text(raw); err != nil {
		return nil, err
	}
	if keep {
		d.table.add(into.bytes[start:start+n], into.bytes[start+n:])
	}
	if into.fits(n, len(into.bytes)-start-n, d.limits) {
		into.add(start, n, sensitive)
	} else {
		into.bytes = into.bytes[:start]
	}
	return raw, nil
}

// text takes a string.
func (b *Block) text(raw []byte) ([]byte, error) {
	if len(raw) == 0 {
		return nil, errShort
	}
	coded := raw[0] >= 0x80
	n, raw, err := integer(raw, 7)
	if err != nil {
		return nil, err
	}
	if int(n) > len(raw) {
		return nil, errShort
	}
	if !coded {
		b.bytes = append(b.bytes, raw[:n]...)
		return raw[n:], nil
	}
	b.bytes, err = appendDecoded(b.bytes, raw[:n])
	return raw[n:], err
}

// fits reports whether a field is within limits. From the first that is not,
// none is.
func (b *Block) fits(name, value int, l Limits) bool {
	b.size += name + value + overhead
	if b.size > l.Size || name+value > l.Field || len(b.Fields) == l.Fields {
		b.TooLarge = true
	}
	return !b.TooLarge
}

// add makes a field of the bytes from start on.
func (b *Block) add(start, name int, sensitive bool) {
	f := b.bytes[start:len(b.bytes):len(b.bytes)]
	b.Fields = append(b.Fields, Field{Name: f[:name:name], Value: f[name:], Sensitive: sensitive})
}

// Size is how many bytes the block can hold without more memory.
func (b *Block) Size() int { return cap(b.bytes) }
