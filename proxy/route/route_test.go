package route

import (
	"math/rand/v2"
	"testing"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/plan"
)

type fields map[string]string

func (f fields) header() (h exchange.Header) {
	for name, value := range f {
		h.Fields = append(h.Fields, exchange.Field{Name: []byte(name), Value: []byte(value)})
	}
	return h
}

var table = Compile([]plan.Rule{
	{Match: plan.Match{Path: "/health"}},
	{Match: plan.Match{Path: "/v2/", Prefix: true, Methods: []string{"GET", "HEAD"}}},
	{Match: plan.Match{Path: "/v2", Prefix: true, Headers: []plan.Header{{Name: "x-canary", Value: "1"}, {Name: "x-tier", Value: "gold"}}}},
	{Match: plan.Match{Methods: []string{"DELETE"}}},
})

func TestMatch(t *testing.T) {
	f := func(method, path string, header fields, want int) {
		t.Helper()
		r := &exchange.Request{Method: []byte(method), Path: []byte(path), Header: header.header()}
		if got := table.Match(r); got != want {
			t.Errorf("%s %s %v: got rule %d, want %d", method, path, header, got, want)
		}
	}
	f("GET", "/health", nil, 0)
	f("GET", "/health/", nil, -1)
	f("GET", "/v2/x", nil, 1)
	f("HEAD", "/v2", nil, 1)
	f("GET", "/v22", nil, -1)
	f("POST", "/v2/x", nil, -1)
	f("POST", "/v2/x", fields{"x-canary": "1"}, -1)
	f("POST", "/v2/x", fields{"x-canary": "1", "x-tier": "silver"}, -1)
	f("POST", "/v2/x", fields{"x-canary": "1", "x-tier": "gold"}, 2)
	f("DELETE", "/v2/x", nil, 3)
	f("delete", "/v2/x", nil, -1)
	f("OPTIONS", "*", nil, -1)
}

func TestReadsPaths(t *testing.T) {
	if !table.ReadsPaths() || Compile(nil).ReadsPaths() ||
		Compile([]plan.Rule{{Match: plan.Match{Methods: []string{"GET"}}}}).ReadsPaths() {
		t.Error("paths are read without a rule about them, or not read in spite of one")
	}
}

func TestSplit(t *testing.T) {
	s := NewSplit([]plan.Split{{Weight: 10}, {Weight: 0}, {Weight: 90}})
	rnd := rand.New(rand.NewPCG(1, 2))
	var got [3]int
	for range 100_000 {
		got[s.Choose(rnd.Uint64())]++
	}
	if got[1] != 0 || got[0] < 9_500 || got[0] > 10_500 {
		t.Errorf("shares are %v", got)
	}
	if NewSplit([]plan.Split{{Weight: 0}}).Choose(7) != -1 || NewSplit(nil).Choose(7) != -1 {
		t.Error("something is chosen of nothing")
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	r := &exchange.Request{Method: []byte("POST"), Path: []byte("/v2/x"), Header: fields{"x-canary": "1", "x-tier": "gold"}.header()}
	s := NewSplit([]plan.Split{{Weight: 10}, {Weight: 90}})
	if n := testing.AllocsPerRun(100, func() {
		if table.Match(r) != 2 || s.Choose(50) != 1 {
			t.Fatal("another rule or share")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	r := &exchange.Request{Method: []byte("DELETE"), Path: []byte("/v2/x")}
	for b.Loop() {
		table.Match(r)
	}
}
