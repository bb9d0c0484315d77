package hpack

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// theirs decodes blocks with the other opinion.
type theirs struct {
	*hpack.Decoder
	fields []Field
}

func newTheirs() *theirs {
	t := &theirs{}
	t.Decoder = hpack.NewDecoder(DefaultTableSize, func(f hpack.HeaderField) {
		t.fields = append(t.fields, Field{[]byte(f.Name), []byte(f.Value), f.Sensitive})
	})
	return t
}

func (t *theirs) decode(raw []byte) error {
	t.fields = nil
	if _, err := t.Write(raw); err != nil {
		return err
	}
	return t.Close()
}

func equal(a, b []Field) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Name, b[i].Name) || !bytes.Equal(a[i].Value, b[i].Value) || a[i].Sensitive != b[i].Sensitive {
			return false
		}
	}
	return true
}

var seeds = [][]byte{
	{}, {0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff}, {0x20, 0x3f, 0xe1, 0x1f, 0x88},
	{0x40, 1, 'a', 1, 'b', 0xbe, 0xbe}, {0x10, 1, 'a', 1, 'b'}, {0x0f, 0x0d, 0x81, 0x1f}, {0x40, 0x81, 0x1f, 0x82, 0x1f, 0xff},
}

// Two blocks one after the other are read as x/net reads them.
func FuzzDecode(f *testing.F) {
	for _, s := range seeds {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		limits := Limits{Size: 1 << 30, Fields: 1 << 20, Field: 1 << 30}
		us, them := NewDecoder(DefaultTableSize, limits), newTheirs()
		for _, raw := range [][]byte{first, second} {
			var b Block
			err, other := us.Decode(raw, &b), them.decode(raw)
			// Numbers beyond 2^28 and a third update are refused by us alone.
			if (err == nil) != (other == nil) && err != errInteger && err != errUpdate {
				t.Fatalf("%x: %v, they say %v", raw, err, other)
			}
			if err != nil || other != nil {
				return
			}
			if !equal(b.Fields, them.fields) {
				t.Fatalf("%x: got\n%s, they have\n%s", raw, lines(&b), lines(&Block{Fields: them.fields}))
			}
		}
	})
}

// Within limits, memory is bounded whatever a block says.
func FuzzDecodeIsBounded(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := NewDecoder(DefaultTableSize, Limits{Size: 1000, Fields: 10, Field: 200})
		var b Block
		d.Decode(raw, &b)
		size := 0
		for _, f := range b.Fields {
			size += len(f.Name) + len(f.Value) + overhead
		}
		if size > 1000 || len(b.Fields) > 10 || d.table.size > DefaultTableSize || len(d.table.bytes) > 2*DefaultTableSize {
			t.Fatalf("%x: %d bytes, %d fields, table of %d", raw, size, len(b.Fields), d.table.size)
		}
	})
}

// What we write, x/net reads.
func FuzzEncode(f *testing.F) {
	f.Add("a: b\nc: d", uint16(4096), false)
	f.Add("user-agent: x\nuser-agent: x\nuser-agent: x", uint16(100), false)
	f.Add(":method: GET\n:path: /a\nauthorization: b", uint16(0), true)
	f.Fuzz(func(t *testing.T, text string, size uint16, sensitive bool) {
		e, them := NewEncoder(DefaultTableSize), newTheirs()
		for i := range 3 {
			if i == 1 {
				e.Allow(int(size))
			}
			var want []Field
			raw := e.Begin(nil)
			for line := range bytes.Lines([]byte(text)) {
				name, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(": "))
				want = append(want, Field{name, value, sensitive && string(name) != ":method"})
				raw = e.Append(raw, name, value, want[len(want)-1].Sensitive)
			}
			if err := them.decode(raw); err != nil {
				t.Fatalf("%x: %v", raw, err)
			}
			for i := range want {
				// What the static table has needs no protection.
				want[i].Sensitive = want[i].Sensitive && i < len(them.fields) && them.fields[i].Sensitive
			}
			if !equal(want, them.fields) {
				t.Fatalf("%x: got\n%s, want\n%s", raw, lines(&Block{Fields: them.fields}), lines(&Block{Fields: want}))
			}
		}
	})
}

func FuzzHuffman(f *testing.F) {
	f.Add([]byte("www.example.com"))
	f.Add([]byte{0, 1, 2, 255, 254, 127})
	f.Fuzz(func(t *testing.T, s []byte) {
		coded := appendHuffman(nil, s)
		if want := hpack.AppendHuffmanString(nil, string(s)); !bytes.Equal(coded, want) || len(coded) != huffmanLength(s) {
			t.Fatalf("%x becomes %x (%d bytes), they have %x", s, coded, huffmanLength(s), want)
		}
		if back, err := appendDecoded(nil, coded); err != nil || !bytes.Equal(back, s) {
			t.Fatalf("%x comes back as %x, %v", s, back, err)
		}
	})
}
