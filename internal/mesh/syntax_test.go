package mesh

import "testing"

func TestCheckPath(t *testing.T) {
	f := func(path string, ok bool) {
		t.Helper()
		if err := CheckPath(path); (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
	}
	for _, good := range []string{"/", "/a", "/a/", "/a/b", "/a-._~!$&'()+,=:@z", "/caf%C3%A9", "/a%2A", "/..a", "/...", "/a%20b", "/a%25b", "/%E2%82%AC"} {
		f(good, true)
	}
	for _, bad := range []string{"", "a", "//", "/a//b", "/a//", "/.", "/..", "/a/../b", "/a/.", "/a b", "/é", "/a?b", "/a#b", "/a;b", `/a\b`, "/a*",
		"/%", "/%2", "/%2f", "/%2F", "/%5C", "/%00", "/%3B", "/%61", "/%c3%a9", "/%zz", "/\x00", "/\x7f",
		"/%3A", "/%01", "/%7F", "/%5B%", "/%2541", "/%254f", "/%C3", "/%C3x", "/%C0%AF", "/%ED%A0%80"} {
		f(bad, false)
	}
}

func TestCallerPattern(t *testing.T) {
	f := func(from, id string, prefix bool) {
		t.Helper()
		gotID, gotPrefix, err := CallerPattern("corp.example", from)
		if gotID != id || gotPrefix != prefix || (err == nil) != (id != "") {
			t.Errorf("%q: %q %v %v", from, gotID, gotPrefix, err)
		}
	}
	f("web", "spiffe://corp.example/svc/web", false)
	f("web-*", "spiffe://corp.example/svc/web-", true)
	f("w*", "spiffe://corp.example/svc/w", true)
	f("host/vm1", "spiffe://corp.example/host/vm1", false)
	f("host/*", "spiffe://corp.example/host/", true)
	f("*", "spiffe://corp.example/", true)
	for _, bad := range []string{"", "**", "*web", "w*b", "Web", "server/a", "svc/web", "host/", "spiffe://corp.example/svc/web", "-*"} {
		f(bad, "", false)
	}
}

func TestPathPattern(t *testing.T) {
	f := func(pattern, path string, prefix bool) {
		t.Helper()
		gotPath, gotPrefix, err := PathPattern(pattern)
		if err != nil || gotPath != path || gotPrefix != prefix {
			t.Errorf("%q: %q %v %v", pattern, gotPath, gotPrefix, err)
		}
	}
	f("/a", "/a", false)
	f("/a/*", "/a", true)
	f("/*", "/", true)
	f("/", "/", false)
	for _, bad := range []string{"", "*", "a/*", "/a*", "/*/b", "/a/*/*", "//*", "/a//*"} {
		if _, _, err := PathPattern(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzSyntax(f *testing.F) {
	for _, seed := range []string{"/a/%C3%A9/*", "web-*", "orders@v2", "host/vm1", "127.0.0.1:80", "[::1]:80", ":"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if path, _, err := PathPattern(s); err == nil && CheckPath(path) != nil {
			t.Errorf("%q gives path %q", s, path)
		}
		if id, prefix, err := CallerPattern("mesh", s); err == nil && !prefix {
			if _, err := ParseIdentity(id); err != nil {
				t.Errorf("%q gives identity %q", s, id)
			}
		}
		if service, subset, err := SplitTo(s); err == nil && subset != "" && service+"@"+subset != s {
			t.Errorf("%q gives %q and %q", s, service, subset)
		}
		if target, err := CheckTarget(s, 1); err == nil && !target.Addr().IsLoopback() {
			t.Errorf("%q gives %s", s, target)
		}
	})
}
