package hpack

import (
	"fmt"
	"testing"
)

// request is the header of an ordinary call; two of its values are new each time.
func request(i int) [][2]string {
	return [][2]string{
		{":method", "GET"}, {":scheme", "https"}, {":authority", "orders"}, {":path", fmt.Sprintf("/orders/%d?full=1", i)},
		{"accept", "application/json"}, {"accept-encoding", "gzip"}, {"accept-language", "en-GB,en;q=0.9"},
		{"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"}, {"content-type", "application/json"},
		{"cache-control", "no-cache"}, {"x-request-id", fmt.Sprintf("%032x", i*7919)},
		{"traceparent", fmt.Sprintf("00-%032x-%016x-01", i*104729, i)}, {"referer", "https://shop.example/cart"},
	}
}

// run encodes requests one after the other, and decodes them if asked to.
func run(n int, each func(func()), decode bool) (encoded int) {
	e, d := NewEncoder(DefaultTableSize), NewDecoder(DefaultTableSize, DefaultLimits)
	requests := make([][][2][]byte, n)
	for i := range requests {
		for _, f := range request(i) {
			requests[i] = append(requests[i], [2][]byte{[]byte(f[0]), []byte(f[1])})
		}
	}
	var raw []byte
	var b Block
	i := 0
	once := func() {
		raw = e.Begin(raw[:0])
		for _, f := range requests[i%n] {
			raw = e.Append(raw, f[0], f[1], false)
		}
		i++
		if decode {
			b.Reset()
			if d.Decode(raw, &b) != nil || len(b.Fields) != len(requests[0]) {
				panic("a field is missing")
			}
		}
	}
	for range 10 {
		once()
	}
	each(once)
	return len(raw)
}

func TestNothingIsAllocated(t *testing.T) {
	run(100, func(f func()) {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%v allocations for a request", n)
		}
	}, true)
}

func BenchmarkEncode(b *testing.B) {
	b.ReportAllocs()
	run(100, func(f func()) {
		for b.Loop() {
			f()
		}
	}, false)
}

func BenchmarkEncodeDecode(b *testing.B) {
	b.ReportAllocs()
	run(100, func(f func()) {
		for b.Loop() {
			f()
		}
	}, true)
}

func BenchmarkHuffmanDecode(b *testing.B) {
	s := []byte("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36")
	coded := appendHuffman(nil, s)
	b.SetBytes(int64(len(s)))
	var out []byte
	for b.Loop() {
		out, _ = appendDecoded(out[:0], coded)
	}
}
