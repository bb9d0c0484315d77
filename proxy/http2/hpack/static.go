package hpack

import "hash/maphash"

// A staticField is one of RFC 7541, appendix A.
type staticField struct{ name, value []byte }

// static is the table that needs not be sent; its first field has index 1.
var static = func() (t [62]staticField) {
	for i, f := range [...][2]string{
		{":authority", ""}, {":method", "GET"}, {":method", "POST"}, {":path", "/"}, {":path", "/index.html"},
		{":scheme", "http"}, {":scheme", "https"}, {":status", "200"}, {":status", "204"}, {":status", "206"},
		{":status", "304"}, {":status", "400"}, {":status", "404"}, {":status", "500"}, {"accept-charset", ""},
		{"accept-encoding", "gzip, deflate"}, {"accept-language", ""}, {"accept-ranges", ""}, {"accept", ""},
		{"access-control-allow-origin", ""}, {"age", ""}, {"allow", ""}, {"authorization", ""}, {"cache-control", ""},
		{"content-disposition", ""}, {"content-encoding", ""}, {"content-language", ""}, {"content-length", ""},
		{"content-location", ""}, {"content-range", ""}, {"content-type", ""}, {"cookie", ""}, {"date", ""}, {"etag", ""},
		{"expect", ""}, {"expires", ""}, {"from", ""}, {"host", ""}, {"if-match", ""}, {"if-modified-since", ""},
		{"if-none-match", ""}, {"if-range", ""}, {"if-unmodified-since", ""}, {"last-modified", ""}, {"link", ""},
		{"location", ""}, {"max-forwards", ""}, {"proxy-authenticate", ""}, {"proxy-authorization", ""}, {"range", ""},
		{"referer", ""}, {"refresh", ""}, {"retry-after", ""}, {"server", ""}, {"set-cookie", ""},
		{"strict-transport-security", ""}, {"transfer-encoding", ""}, {"user-agent", ""}, {"vary", ""}, {"via", ""},
		{"www-authenticate", ""},
	} {
		t[i+1] = staticField{[]byte(f[0]), []byte(f[1])}
	}
	return t
}()

// seed keeps others from choosing fields that collide.
var seed = maphash.MakeSeed()

func hashName(name []byte) uint64 { return maphash.Bytes(seed, name) }

func hashPair(name uint64, value []byte) uint64 {
	return name*0x9e3779b97f4a7c15 ^ maphash.Bytes(seed, value)
}

// buckets is how many chains of fields there are.
const buckets = 256

// staticIndex finds static fields: heads of chains, and what follows each field.
type staticIndex struct {
	heads [buckets]uint8
	next  [len(static)]uint8
}

// Chains are filled from the end, so that of one name the first field is found
// first.
var staticNames = func() (x staticIndex) {
	for i := len(static) - 1; i > 0; i-- {
		bucket := hashName(static[i].name) % buckets
		x.next[i], x.heads[bucket] = x.heads[bucket], uint8(i)
	}
	return x
}()

// findStatic gives the index of a field, or if there is none with that value, of
// one with that name; 0 is none.
func findStatic(name, value []byte, hash uint64) (index uint64, whole bool) {
	for i := staticNames.heads[hash%buckets]; i != 0; i = staticNames.next[i] {
		f := &static[i]
		if string(f.name) != string(name) {
			continue
		}
		if len(value) > 0 && string(f.value) == string(value) {
			return uint64(i), true
		}
		if index == 0 {
			index = uint64(i)
		}
	}
	return index, false
}
