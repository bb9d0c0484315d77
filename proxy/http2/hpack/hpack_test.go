package hpack

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unhex makes bytes of hexadecimal digits with white space between.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lines shows fields one a line; sensitive ones have an exclamation mark.
func lines(b *Block) string {
	var s strings.Builder
	for _, f := range b.Fields {
		if f.Sensitive {
			s.WriteByte('!')
		}
		fmt.Fprintf(&s, "%s: %s\n", f.Name, f.Value)
	}
	return s.String()
}

// RFC 7541, appendix C.
func TestExamples(t *testing.T) {
	f := func(d *Decoder, raw, want string, size int) {
		t.Helper()
		var b Block
		if err := d.Decode(unhex(t, raw), &b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, lines(&b)); diff != "" || d.table.size != size {
			t.Errorf("size %d, want %d, %s", d.table.size, size, diff)
		}
	}
	fresh := func() *Decoder { return NewDecoder(DefaultTableSize, DefaultLimits) }
	f(fresh(), "400a637573746f6d2d6b65790d637573746f6d2d686561646572", "custom-key: custom-header\n", 55)
	f(fresh(), "040c2f73616d706c652f70617468", ":path: /sample/path\n", 0)
	f(fresh(), "100870617373776f726406736563726574", "!password: secret\n", 0)
	f(fresh(), "82", ":method: GET\n", 0)

	first := ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n"
	third := ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n"
	d := fresh()
	f(d, "828684410f7777772e6578616d706c652e636f6d", first, 57)
	f(d, "828684be58086e6f2d6361636865", first+"cache-control: no-cache\n", 110)
	f(d, "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", third, 164)
	d = fresh()
	f(d, "828684418cf1e3c2e5f23a6ba0ab90f4ff", first, 57)
	f(d, "828684be5886a8eb10649cbf", first+"cache-control: no-cache\n", 110)
	f(d, "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", third, 164)

	// With evictions.
	d = fresh()
	d.table.max = 256
	f(d, "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
		":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n", 222)
	f(d, "4883640effc1c0bf", ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n", 222)
	f(d, "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
		":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\ncontent-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n", 215)
}

func TestRefusedBlocks(t *testing.T) {
	f := func(what, raw string, want error) {
		t.Helper()
		var b Block
		if err := NewDecoder(DefaultTableSize, DefaultLimits).Decode(unhex(t, raw), &b); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	f("index 0", "80", errIndex)
	f("an index beyond the tables", "be", errIndex)
	f("a name beyond the tables", "7f00 0161", errIndex)
	f("a number without end", "ff", errShort)
	f("a number without end", "ff80", errShort)
	f("a number of too many bytes", "ff8080808000", errInteger)
	f("a number that is too large", "ffffffffffffffff7f", errInteger)
	f("no name", "40", errShort)
	f("half a name", "40 0361", errShort)
	f("no value", "40 0161", errShort)
	f("half a value", "40 0161 0262", errShort)
	f("a value that is longer than memory", "40 0161 7fffffff7f", errShort)
	f("an update behind a field", "82 20", errUpdate)
	f("three updates", "20 20 20 82", errUpdate)
	f("an update beyond what was agreed", "3fe21f", errTooWide)
	f("the largest update", "3fe11f", nil)
	f("a field after the table became empty", "40 0161 0162 20", errUpdate)
	f("eos", "00 0161 84 ffffffff", errHuffman)
	f("padding of a whole byte", "00 0161 82 1fff", errHuffman)
	f("padding that is not ones", "00 0161 81 18", errHuffman)
	f("padding as it should be", "00 0161 81 1f", nil)
	f("nothing", "", nil)
}

// A small block can stand for much; what does not fit is left out, but the table
// has to be what the peer thinks.
func TestLimits(t *testing.T) {
	f := func(what string, l Limits, want int, tooLarge bool, fields ...string) {
		t.Helper()
		e, d := NewEncoder(DefaultTableSize), NewDecoder(DefaultTableSize, l)
		for range 3 {
			raw := e.Begin(nil)
			for i := 0; i < len(fields); i += 2 {
				raw = e.Append(raw, []byte(fields[i]), []byte(fields[i+1]), false)
			}
			var b Block
			if err := d.Decode(raw, &b); err != nil {
				t.Fatal(err)
			}
			if len(b.Fields) != want || b.TooLarge != tooLarge {
				t.Errorf("%s: %d fields, too large is %v", what, len(b.Fields), b.TooLarge)
			}
		}
		if d.table.size != e.table.size || d.table.count != e.table.count {
			t.Errorf("%s: the decoder's table has %d bytes, the encoder's %d", what, d.table.size, e.table.size)
		}
	}
	f("within", Limits{100, 2, 20}, 2, false, "a", "b", "c", "d")
	f("one field too many", Limits{1000, 2, 20}, 2, true, "a", "b", "c", "d", "e", "f")
	f("one byte too many", Limits{101, 9, 20}, 2, true, "a", "b", "c", "d", "e", "f")
	f("just as many", Limits{102, 9, 20}, 3, false, "a", "b", "c", "d", "e", "f")
	f("a long field", Limits{1000, 9, 20}, 1, true, "a", "b", "c", strings.Repeat("d", 20), "e", "f")

	d := NewDecoder(DefaultTableSize, DefaultLimits)
	bomb := append([]byte{0x40, 1, 'a'}, appendText(nil, bytes.Repeat([]byte("x"), 4000), false)...)
	bomb = append(bomb, bytes.Repeat([]byte{0xbe}, 10_000)...)
	var b Block
	if err := d.Decode(bomb, &b); err != nil || !b.TooLarge || cap(b.bytes) > 1<<18 {
		t.Errorf("a bomb: %v, too large is %v, %d bytes are held", err, b.TooLarge, cap(b.bytes))
	}
}

func TestSensitiveFieldsEnterNoTable(t *testing.T) {
	e, d := NewEncoder(DefaultTableSize), NewDecoder(DefaultTableSize, DefaultLimits)
	for range 5 {
		raw := e.Append(e.Begin(nil), []byte("authorization"), []byte("secret"), true)
		raw = e.Append(raw, []byte("x-mine"), []byte("secret"), true)
		var b Block
		if err := d.Decode(raw, &b); err != nil || lines(&b) != "!authorization: secret\n!x-mine: secret\n" {
			t.Errorf("got %v %q", err, lines(&b))
		}
	}
	if e.table.count != 0 || d.table.count != 0 {
		t.Error("something is in a table")
	}
}

func TestFieldsThatReturnBecomeSmall(t *testing.T) {
	e := NewEncoder(DefaultTableSize)
	sizes := []int{}
	for i := range 4 {
		raw := e.Append(e.Begin(nil), []byte("user-agent"), []byte("something of some length"), false)
		raw = e.Append(raw, []byte("x-id"), fmt.Appendf(nil, "%08d", i), false)
		sizes = append(sizes, len(raw))
	}
	if sizes[2] != sizes[3] || sizes[3] != 1+1+5+1+8 {
		t.Errorf("blocks have %d bytes", sizes)
	}
	if e.table.count != 1 {
		t.Errorf("%d fields are in the table", e.table.count)
	}
}

func TestTableSizes(t *testing.T) {
	f := func(what string, most int, allow []int, want string) {
		t.Helper()
		e := NewEncoder(most)
		for _, size := range allow {
			e.Allow(size)
		}
		if got := hex.EncodeToString(e.Begin(nil)); got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
		if got := e.Begin(nil); len(got) != 0 {
			t.Errorf("%s: once more: %x", what, got)
		}
	}
	f("as agreed", 4096, nil, "")
	f("the peer allows more than we want", 4096, []int{65536}, "")
	f("we want less", 0, nil, "20")
	f("we want less", 0, []int{65536}, "20")
	f("the peer wants none", 4096, []int{0}, "20")
	f("the peer allows more", 8192, []int{65536}, "3fe13f")
	f("none, and then some", 4096, []int{0, 100}, "203f45")
	f("none, and then all", 4096, []int{0, 4096}, "203fe11f")
	f("less and less", 4096, []int{100, 10}, "2a")
}

// Whatever is added and evicted, both sides know the same fields.
func TestTablesAgreeOverTime(t *testing.T) {
	e, d := NewEncoder(8192), NewDecoder(8192, DefaultLimits)
	var raw []byte
	var b Block
	for i := range 5000 {
		if i%97 == 0 {
			e.Allow(i * 7 % 8192)
		}
		raw = e.Begin(raw[:0])
		want := ""
		for j := range 5 {
			name, value := fmt.Sprintf("name-%d", (i/3+j)%11), strings.Repeat("v", (i/2)%300+j)
			raw = e.Append(raw, []byte(name), []byte(value), false)
			want += name + ": " + value + "\n"
		}
		b.Reset()
		if err := d.Decode(raw, &b); err != nil || lines(&b) != want {
			t.Fatalf("block %d: %v, got\n%swant\n%s", i, err, lines(&b), want)
		}
	}
}
