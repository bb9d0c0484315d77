package exchange

import (
	"bytes"
	"net/url"
	"testing"
)

func TestCanonicalPath(t *testing.T) {
	f := func(path, want string) {
		t.Helper()
		got, err := AppendCanonicalPath(nil, []byte(path))
		if err != nil || string(got) != want {
			t.Errorf("%q: got %q, %v; want %q", path, got, err, want)
		}
	}
	f("/", "/")
	f("/a/b", "/a/b")
	f("/a/", "/a/")
	f("/%61dmin", "/admin")
	f("/%7Euser/%7euser", "/~user/~user")
	f("/a%20b", "/a%20b")
	f("/a%21b!c", "/a!b!c")
	f("/caf%c3%a9", "/caf%C3%A9")
	f("/%e2%82%ac/%F0%9F%98%80", "/%E2%82%AC/%F0%9F%98%80")
	f("/100%25", "/100%25")
	f("/100%25x", "/100%25x")
	f(`/{a}|"b"`, "/%7Ba%7D%7C%22b%22")
	f("/...", "/...")
	f("/.a/..b", "/.a/..b")
	f("/a%3Fb%23c", "/a%3Fb%23c")
}

func TestAmbiguousPaths(t *testing.T) {
	f := func(path string, want error) {
		t.Helper()
		got, err := AppendCanonicalPath(nil, []byte(path))
		if err != want {
			t.Errorf("%q: got %q, %v; want %v", path, got, err, want)
		}
	}
	f("", errRelative)
	f("a", errRelative)
	f("*", errRelative)
	f("//", errEmpty)
	f("//a", errEmpty)
	f("/a//b", errEmpty)
	f("/a//", errEmpty)
	f("/.", errDots)
	f("/..", errDots)
	f("/./a", errDots)
	f("/a/../b", errDots)
	f("/a/..", errDots)
	f("/a/%2e%2E/b", errDots)
	f("/a/.%2e", errDots)
	f("/%2", errEscape)
	f("/%zz", errEscape)
	f("/%", errEscape)
	f("/%252e", errDouble)
	f("/%2541", errDouble)
	f("/%250%30", errDouble)
	f("/%25%41%41", errDouble)
	f("/a%2fb", errSeparator)
	f("/a%2Fb", errSeparator)
	f("/a%5cb", errSeparator)
	f(`/a\b`, errSeparator)
	f("/a;b=1", errSeparator)
	f("/a%3bb", errSeparator)
	f("/a%00", errControl)
	f("/a%0d%0a", errControl)
	f("/a%7f", errControl)
	f("/%c0%af", errUnicode)
	f("/%c0%ae%c0%ae", errUnicode)
	f("/%e2%82", errUnicode)
	f("/%e2%82x", errUnicode)
	f("/%ff", errUnicode)
	f("/caf\xc3\xa9", errUnicode)
}

func TestPathMatch(t *testing.T) {
	f := func(path string, prefix bool, request string, want bool) {
		t.Helper()
		if got := NewPathMatch(path, prefix).Match([]byte(request)); got != want {
			t.Errorf("%q (prefix %v) on %q: got %v", path, prefix, request, got)
		}
	}
	f("/v2", false, "/v2", true)
	f("/v2", false, "/v2/", false)
	f("/v2", true, "/v2", true)
	f("/v2", true, "/v2/x", true)
	f("/v2/", true, "/v2/x", true)
	f("/v2/", true, "/v2", true)
	f("/v2", true, "/v22", false)
	f("/v2", true, "/v", false)
	f("/", true, "/", true)
	f("/", true, "/anything", true)
	f("/", true, "*", false)
	f("/caf%c3%a9", false, "/caf%C3%A9", true)
}

func TestCanonicalizeKeepsAsterisk(t *testing.T) {
	r := Request{Path: []byte("*")}
	if err := r.Canonicalize(nil); err != nil || string(r.Path) != "*" {
		t.Errorf("got %q, %v", r.Path, err)
	}
}

func TestCanonicalizeAllocatesNothing(t *testing.T) {
	path, scratch := []byte("/orders/%61/%c3%a9"), make([]byte, 0, 64)
	match := NewPathMatch("/orders", true)
	if n := testing.AllocsPerRun(100, func() {
		r := Request{Path: path}
		if r.Canonicalize(scratch) != nil || !match.Match(r.Path) {
			t.Fatal("path is refused or does not match")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is accepted means the same to net/url, and has one spelling only.
func FuzzCanonicalPath(f *testing.F) {
	for _, s := range []string{"/", "/a/b/", "/%61", "/a%2fb", "/%c3%a9", "/..", "/%25x", "/a;b", `/"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, path []byte) {
		got, err := AppendCanonicalPath(nil, path)
		if err != nil {
			return
		}
		again, err := AppendCanonicalPath(nil, got)
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%q became %q, which became %q, %v", path, got, again, err)
		}
		before, err1 := url.PathUnescape(string(path))
		after, err2 := url.PathUnescape(string(got))
		if err1 != nil || err2 != nil || before != after {
			t.Fatalf("%q means %q, but %q means %q", path, before, got, after)
		}
	})
}

func BenchmarkCanonicalPath(b *testing.B) {
	path, scratch := []byte("/api/v2/customers/4711/orders/%61%62c"), make([]byte, 0, 64)
	for b.Loop() {
		AppendCanonicalPath(scratch, path)
	}
}
