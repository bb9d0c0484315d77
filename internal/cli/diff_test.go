package cli

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func TestDiff(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	m.resources = []*apiv1.Resource{{Name: "orders", Version: 7, Spec: &apiv1.Resource_Service{Service: &apiv1.Service{
		Protocol: apiv1.Protocol_PROTOCOL_HTTP,
		Subsets:  map[string]*apiv1.Subset{"v2": {Match: map[string]string{"meta.version": "2"}}},
	}}}}
	dir := writeFiles(t, "same.yaml", "kind: service\nname: orders\nprotocol: http\nsubsets: {v2: {meta.version: \"2\"}}\n",
		"new.yaml", "kind: service\nname: orders\nprotocol: http\ntimeout: {request: 15s}\nsubsets: {v2: {meta.version: \"3\"}}\n---\nkind: route\nname: canary\nservice: orders\n",
		"stale.yaml", "kind: service\nname: orders\nversion: 5\nprotocol: http\nsubsets: {v2: {meta.version: \"2\"}}\n")
	m.want(t, "nothing would change\n", "diff", "-f", dir+"/same.yaml", "--exit-code")
	const changes = `
--- service orders (version 7)
+++ service orders (file)
 kind: service
 name: orders
 protocol: http
+timeout:
+  request: 15s
 subsets:
   v2:
-    meta.version: "2"
+    meta.version: "3"
--- route canary (not there)
+++ route canary (file)
+kind: route
+name: canary
+service: orders
`
	m.want(t, changes, "diff", "-f", dir+"/new.yaml")
	stdout, stderr, exit := m.command(t, "diff", "-f", dir+"/new.yaml", "--exit-code")
	if exit != exitDiffers || stderr != "" {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	compare(t, changes, stdout)
	stdout, _, _ = m.command(t, "diff", "-f", dir+"/stale.yaml")
	if !strings.Contains(stdout, "made from version 5: applying it will be refused") {
		t.Errorf("a stale file: %s", stdout)
	}
}

func TestDiffLines(t *testing.T) {
	f := func(before, after, want string) {
		t.Helper()
		if got := strings.Join(diffLines(strings.Fields(before), strings.Fields(after)), ""); got != strings.ReplaceAll(want, "_", " ") {
			t.Errorf("%s to %s gave %q, want %q", before, after, got, want)
		}
	}
	f("", "", "")
	f("a b", "a b", "")
	f("a b c", "a x c", "_a-b+x_c")
	f("a", "", "-a")
	f("1 2 3 4 5 6 7 8 9", "1 2 3 4 5 6 7 8 x", "_6_7_8-9+x")
	f("x 2 3 4 5 6 7 8 9", "1 2 3 4 5 6 7 8 y", "-x+1_2_3_4@@_6_7_8-9+y")
}

// The lines without those of + are the one text, those without - the other, and
// no more are marked than must be.
func TestDiffLinesTellBothTexts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 8)
		before, after := text.Draw(t, "before"), text.Draw(t, "after")
		var olds, news []string
		same := 0
		for _, line := range allLines(before, after) {
			if line[0] != '+' {
				olds = append(olds, line[1:])
			}
			if line[0] != '-' {
				news = append(news, line[1:])
			}
			if line[0] == ' ' {
				same++
			}
		}
		if strings.Join(olds, "") != strings.Join(before, "") || strings.Join(news, "") != strings.Join(after, "") {
			t.Fatalf("%v to %v gave %v and %v", before, after, olds, news)
		}
		if most := common(before, after); same != most {
			t.Fatalf("%v and %v have %d lines in common, and %d are shown so", before, after, most, same)
		}
	})
}

// common is the length of a longest common subsequence, worked out slowly.
func common(a, b []string) int {
	switch {
	case len(a) == 0 || len(b) == 0:
		return 0
	case a[0] == b[0]:
		return 1 + common(a[1:], b[1:])
	}
	return max(common(a[1:], b), common(a, b[1:]))
}
