package config

import (
	"errors"
	"os"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

var durations = []time.Duration{0, 1, time.Microsecond, 15 * time.Millisecond, time.Second, 1500 * time.Millisecond, time.Minute, 10 * time.Minute,
	90 * time.Second, time.Hour, 24 * time.Hour, time.Hour + 10*time.Minute, time.Hour + time.Second, 10*time.Hour + 1, -time.Second, -time.Hour, 1<<63 - 1, -1 << 63}

const sample = `# how orders is called
kind: service
name: orders
protocol: http
timeout: {request: 15s, connect: 1s, idle: 5m}
retry:
  attempts: 2
  on: [connect, refused, reset, 5xx, 503]
  per_try: 5s
  budget: {ratio: 0.2, min_per_second: 10}
balance: {policy: ewma}
breaker: {consecutive: 5, success_rate: 0.8, window: 10s, max_ejected: 0.5}
subsets:
  v2: {meta.version: 2}
---
kind: route
name: orders-canary
version: 42
service: orders
rules:
  - match:
      path: {prefix: /v2/}
      methods: [GET]
      headers: {x-canary: "1"}
    split: [{to: orders@v2, weight: 10}, {to: orders, weight: 90}]
    timeout: {request: 2s}
  - match: {path: {exact: /old}}
    split:
      - to: legacy
---
kind: policy
name: orders
service: orders
mode: enforce
default: deny
rules:
  - {name: web-reads, from: [web], methods: [GET, HEAD], paths: [/orders/*]}
  - name: billing
    from: ["*"]
    action: allow
---
kind: mesh
policy: {default: allow, mode: audit}
certificates: {ttl: 24h}
`

func decodeSample(t *testing.T) []Document {
	t.Helper()
	docs, err := DecodeResources("sample.yaml", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

func TestDecodeSample(t *testing.T) {
	docs := decodeSample(t)
	if len(docs) != 4 {
		t.Fatalf("%d documents", len(docs))
	}
	all := make([]*apiv1.Resource, len(docs))
	for i, doc := range docs {
		all[i] = doc.Resource
	}
	if err := Report(docs, mesh.ValidateSet(all, all)); err != nil {
		t.Error(err)
	}
	service, route, policy := all[0].GetService(), all[1].GetRoute(), all[2].GetPolicy()
	if service.GetSubsets()["v2"].GetMatch()["meta.version"] != "2" || service.Retry.On[4] != "503" || service.Timeout.Idle.AsDuration() != 5*time.Minute {
		t.Errorf("service is %v", service)
	}
	if all[1].Version != 42 || route.Rules[0].Match.Path.GetPrefix() != "/v2/" || route.Rules[0].Split[1].GetWeight() != 90 || route.Rules[1].Split[0].Weight != nil {
		t.Errorf("route is %v", all[1])
	}
	if policy.Default != apiv1.PolicyAction_POLICY_ACTION_DENY || policy.Rules[1].From[0] != "*" || policy.Mode != apiv1.PolicyMode_POLICY_MODE_ENFORCE {
		t.Errorf("policy is %v", policy)
	}
	if all[3].Name != "mesh" || all[3].GetMesh().Certificates.Ttl.AsDuration() != 24*time.Hour {
		t.Errorf("mesh is %v", all[3])
	}
}

func TestLocate(t *testing.T) {
	docs := decodeSample(t)
	f := func(doc int, path string, line, column int) {
		t.Helper()
		if got := docs[doc].Locate(path); got.Line != line || got.Column != column || got.File != "sample.yaml" {
			t.Errorf("%q is at %s, want %d:%d", path, got, line, column)
		}
	}
	f(0, "", 2, 1)
	f(0, "name", 3, 7)
	f(0, "timeout", 5, 1)
	f(0, "timeout.idle", 5, 44)
	f(0, "timeout.response", 5, 1) // absent: where it would be
	f(0, "retry.on[4]", 8, 38)
	f(0, "subsets", 13, 1)
	f(0, "subsets.v2", 14, 3)
	f(0, `subsets.v2["meta.version"]`, 14, 22)
	f(0, "nothing.here[3]", 2, 1)
	f(1, "rules[0].split[1].to", 25, 47)
	f(1, "rules[0].match.headers.x-canary", 24, 27)
	f(1, "rules[1]", 27, 5)
	f(1, "rules[1].split[0].to", 29, 13)
	f(1, "rules[7].split", 20, 1)
	f(1, `rules["`, 20, 1)
	f(3, "policy.mode", 43, 32)
}

func TestReport(t *testing.T) {
	docs := decodeSample(t)
	if err := Report(docs, nil); err != nil {
		t.Error(err)
	}
	err := Report(docs, []*apiv1.Problem{
		{Resource: 1, Path: "rules[0].split[0].to", Message: `service "orders" has no subset "v2"`, Fix: "add it"},
		{Resource: 9, Message: "it is gone"},
	})
	const want = `sample.yaml:25:18: service "orders" has no subset "v2"
        split: [{to: orders@v2, weight: 10}, {to: orders, weight: 90}]
                     ^
  add it
it is gone`
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 2 || err.Error() != want {
		t.Errorf("got\n%v", err)
	}
}

// Wherever validation finds a mistake in a resource that was read from a file,
// it can be shown at more than the start of the document.
func TestProblemsAreLocated(t *testing.T) {
	const file = `kind: route
name: Bad
service: bad_
rules:
  - split: [{to: a@b@c}]
    match: {methods: [get], headers: {X: "1"}, path: {exact: a}}
    timeout: {idle: -1s}
    retry: {attempts: 99, on: [x], budget: {ratio: 2}}
`
	docs, err := DecodeResources("a.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	changed := []*apiv1.Resource{docs[0].Resource}
	problems := mesh.ValidateSet(changed, changed)
	if len(problems) != 10 {
		t.Errorf("%d problems: %v", len(problems), problems)
	}
	compareGolden(t, "testdata/problems.txt", Report(docs, problems).Error()+"\n")
}

func TestReadFileIsBounded(t *testing.T) {
	file := t.TempDir() + "/big.yaml"
	if err := os.WriteFile(file, make([]byte, maxSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	var problems Problems
	if _, err := ReadFile(file); !errors.As(err, &problems) {
		t.Errorf("got %v", err)
	}
	if _, err := DecodeResources("big.yaml", make([]byte, maxSize+1)); !errors.As(err, &problems) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodeResources(f *testing.F) {
	f.Add([]byte(sample))
	for _, file := range []string{"fields", "kinds", "tab", "long-line"} {
		data, err := os.ReadFile("testdata/resources/" + file + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := DecodeResources("fuzz.yaml", data)
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) > maxProblems+1 {
				t.Fatalf("not a bounded list of problems: %v", err)
			}
			return
		}
		for _, doc := range docs {
			out, err := EncodeResource(doc.Resource)
			if err != nil {
				t.Fatal(err)
			}
			back, err := DecodeResources("back.yaml", out)
			if err != nil || !proto.Equal(back[0].Resource, doc.Resource) {
				t.Fatalf("%s\n%v", out, err)
			}
		}
	})
}
