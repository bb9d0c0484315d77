package archtest

import (
	"strings"
	"testing"
)

func TestArchitecture(t *testing.T) {
	packages, err := Load("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) < 10 {
		t.Fatalf("only %d packages were listed", len(packages))
	}
	for _, v := range Check(packages) {
		t.Error(v)
	}
	calls, err := CheckCalls(packages)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range calls {
		t.Error(v)
	}
}

// The rest shows that the rules can be broken: each case is a made-up module.

func TestCheck(t *testing.T) {
	f := func(wantWhere, wantWhat, wantReason string, packages ...Package) {
		t.Helper()
		for i := range packages {
			packages[i].Doc, packages[i].Files = "Doc.", []string{"x.go"}
		}
		found := Check(packages)
		if wantWhere == "" && len(found) == 0 {
			return
		}
		for _, v := range found {
			if v.Where == wantWhere && strings.Contains(v.What, wantWhat) && strings.Contains(v.Reason, wantReason) {
				return
			}
		}
		t.Errorf("want %q %q (%s), found %q", wantWhere, wantWhat, wantReason, found)
	}
	pkg := func(path string, imports ...string) Package { return Package{Path: path, Imports: imports} }

	f("", "", "", pkg("api/v1"), pkg("internal/mesh", "api/v1", "fmt"), pkg("store", "store/state"), pkg("store/state", "api/v1"))

	f("newroom", "is in no layer", "", pkg("newroom"))
	f("internal/mesh", "imports store", "vocabulary may not depend on engines", pkg("internal/mesh", "store"), pkg("store"))
	f("internal/cli", "imports .", "may not depend", pkg("internal/cli", "."), pkg("."))

	f("dns", "imports proxy/plan", "engines never import", pkg("dns", "proxy/plan"), pkg("proxy/plan"))
	f("internal/gossip", "imports store", "engines never import", pkg("internal/gossip", "store"), pkg("store"))

	f("proxy/http1", "imports proxy/l4", "never sideways", pkg("proxy/http1", "proxy/l4"), pkg("proxy/l4"))
	f("proxy/route", "imports proxy/pool", "within the proxy", pkg("proxy/route", "proxy/pool"), pkg("proxy/pool"))
	f("proxy/magic", "is at no step", "", pkg("proxy/magic"))
	f("", "", "", pkg("proxy", "proxy/http1"), pkg("proxy/http1", "proxy/pool"), pkg("proxy/pool", "proxy/mtls"), pkg("proxy/mtls", "proxy/plan"), pkg("proxy/plan"))

	f("server/rpc", "imports server", "cannot depend on the whole", pkg("server/rpc", "server"), pkg("server"))

	f("agent", "imports server", "upgraded alone", pkg("agent", "server"), pkg("server"))
	f("agent/control", "imports api/client, which imports store/state", "upgraded alone",
		pkg("agent/control", "api/client"), pkg("api/client", "store/state"), pkg("store/state"))
	f("server", "imports dns", "servers carry no traffic", pkg("server", "dns"), pkg("dns"))
	f("proxy", "imports api/v1", "compiled plans", pkg("proxy", "api/v1"), pkg("api/v1"))
	f("", "", "", pkg("proxy/mtls", "internal/mesh"), pkg("internal/mesh", "api/v1"), pkg("api/v1"))
	f("store/state", "imports math/rand/v2", "same state", pkg("store/state", "math/rand/v2"))
	f("store/state", "imports os", "same state", pkg("store/state", "os"))
	f("", "", "", pkg("store/state", "net/netip"))

	f("agent", "imports agent/agenttest", "out of the binary", pkg("agent", "agent/agenttest"), pkg("agent/agenttest"))
	f("agent", "imports testing", "out of the binary", pkg("agent", "testing"))
	f("", "", "", pkg("proxy/mtls/mtlstest", "testing"), Package{Path: "proxy/mtls", TestImports: []string{"proxy/mtls/mtlstest"}})

	f("server", "imports github.com/hashicorp/raft", "one home", pkg("server", "github.com/hashicorp/raft"))
	f("", "", "", pkg("store", "github.com/hashicorp/raft"))
	f("store", "imports github.com/hashicorp/raft-boltdb", "no home", pkg("store", "github.com/hashicorp/raft-boltdb"))
	f("agent", "imports github.com/google/go-cmp/cmp", "for tests", pkg("agent", "github.com/google/go-cmp/cmp"))
	f("", "", "", Package{Path: "agent", TestImports: []string{"github.com/google/go-cmp/cmp", "github.com/miekg/dns"}})
	f("agent", "imports example.com/x", "no home", Package{Path: "agent", TestImports: []string{"example.com/x"}})
}

func TestCheckDocs(t *testing.T) {
	found := Check([]Package{{Path: "agent", Files: []string{"agent.go"}}})
	if len(found) != 1 || !strings.Contains(found[0].What, "no package comment") {
		t.Errorf("found %q", found)
	}
	if found := Check([]Package{{Path: "test/hosts", TestFiles: []string{"hosts_test.go"}}}); len(found) != 0 {
		t.Errorf("a package of tests alone needs no comment, found %q", found)
	}
}

func TestCheckFile(t *testing.T) {
	f := func(pkg string, test bool, body, want string) {
		t.Helper()
		src := "package x\n\nimport (\n\t\"os\"\n\t\"log/slog\"\n\t\"net\"\n\tclock \"time\"\n)\n\nfunc f() { " + body + " }\n"
		found, err := checkFile(pkg, "x.go", []byte(src), test)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if len(found) > 0 {
			got = found[0].Where + " " + found[0].What
		}
		if got != want {
			t.Errorf("%s in %s: found %q, want %q", body, pkg, got, want)
		}
	}
	f("agent", true, "clock.Sleep(1)", "agent/x.go:10:12 uses time.Sleep")
	f("agent", false, "clock.Sleep(1)", "")
	f("store/state", false, "_ = clock.Now()", "store/state/x.go:10:16 uses time.Now")
	f("store/state", false, "now := clock.Now; now()", "store/state/x.go:10:19 uses time.Now")
	f("store/state", false, "_ = clock.Unix(1, 0)", "")
	f("store", false, "_ = clock.Now()", "")
	f("store/state", false, `net.Dial("tcp", "a:1")`, "store/state/x.go:10:12 uses net.Dial")
	f("store/state", false, `net.SplitHostPort("a:1")`, "")
	f("server", false, `slog.Info("x")`, "server/x.go:10:12 uses log/slog.Info")
	f("server", false, `slog.New(nil).Info("x")`, "")
	f("agent", false, "os.Exit(1)", "agent/x.go:10:12 uses os.Exit")
	f("internal/cli", false, "os.Exit(1)", "")
	f("agent", true, "os.Exit(1)", "")
}

func TestSleepOnAFakeClock(t *testing.T) {
	src := "package x\n\nimport (\n\t\"testing/synctest\"\n\t\"time\"\n)\n\nfunc f() { synctest.Test(nil, nil); time.Sleep(1) }\n"
	if found, err := checkFile("agent", "x_test.go", []byte(src), true); err != nil || len(found) > 0 {
		t.Errorf("found %q, %v", found, err)
	}
}

func TestCheckFileThatIsNoGo(t *testing.T) {
	if _, err := checkFile("agent", "x.go", []byte("packag x"), false); err == nil {
		t.Error("a broken file passed")
	}
}

func TestMatches(t *testing.T) {
	f := func(pattern, path string, want bool) {
		t.Helper()
		if got := matches(pattern, path); got != want {
			t.Errorf("%s means %s: %v, want %v", pattern, path, got, want)
		}
	}
	f("store", "store", true)
	f("store", "store/state", false)
	f("store/...", "store", true)
	f("store/...", "store/state", true)
	f("store/...", "storage", false)
	f("...", ".", true)
}
