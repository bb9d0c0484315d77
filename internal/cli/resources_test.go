package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
)

const ordersYAML = `kind: service
name: orders
timeout: {request: 15s}
---
kind: route
name: canary
service: orders
rules:
  - split: [{to: orders@v2}]
`

func writeFiles(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestApply(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	dir := writeFiles(t, "b.yaml", ordersYAML, "a.yml", "kind: mesh\n", "notes.txt", "no yaml: [")
	m.want(t, "service orders created\nroute canary created\n", "apply", "-f", dir+"/b.yaml")
	m.want(t, "mesh mesh created\nservice orders created\nroute canary created\n", "apply", "-f", dir)
	m.want(t, "mesh mesh created (dry run)\n", "apply", "--dry-run", "-f", dir+"/a.yml")
	if !m.last().(*apiv1.ApplyRequest).DryRun {
		t.Error("the servers were not told that it is a dry run")
	}
	stdout, stderr, exit := m.commandWithInput(t, "kind: mesh\n", "apply", "-f", "-")
	if exit != 0 || stdout != "mesh mesh created\n" {
		t.Errorf("exit %d: %s%s", exit, stdout, stderr)
	}
}

func TestApplyShowsWhereServersFoundMistakes(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	m.problems = []*apiv1.Problem{{Resource: 1, Path: "rules[0].split[0].to", Message: `the service "orders" has no subset "v2"`, Fix: "define it"}}
	dir := writeFiles(t, "orders.yaml", ordersYAML)
	stdout, stderr, exit := m.command(t, "apply", "-f", dir+"/orders.yaml")
	if exit != exitFailure || stdout != "" {
		t.Errorf("exit %d, stdout %q", exit, stdout)
	}
	compare(t, `
orders.yaml:9:18: the service "orders" has no subset "v2"
      - split: [{to: orders@v2}]
                     ^
  define it
meshd: 1 mistake found
  effect: nothing was changed
  next:   correct what is marked above, then run the same command again
`, strings.ReplaceAll(stderr, dir+"/", ""))
}

func TestApplySendsNothingWhenOneFileIsWrong(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	dir := writeFiles(t, "a.yaml", "kind: mesh\n", "b.yaml", "kind: service\n", "c.yaml", "kind: rout\nname: x\n")
	_, stderr, exit := m.command(t, "apply", "-f", dir)
	if exit != exitFailure || m.last() != nil {
		t.Errorf("exit %d, sent %v", exit, m.last())
	}
	for _, want := range []string{"b.yaml:1:1: ", "c.yaml:1:7: ", "meshd: 2 mistakes found"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is missing from\n%s", want, stderr)
		}
	}
}

func TestGet(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	m.resources = []*apiv1.Resource{
		{Name: "orders", Version: 7, Spec: &apiv1.Resource_Service{Service: &apiv1.Service{
			Protocol: apiv1.Protocol_PROTOCOL_HTTP, Timeout: &apiv1.Timeouts{Request: durationpb.New(15e9)},
			Subsets: map[string]*apiv1.Subset{"v2": {Match: map[string]string{"meta.version": "2"}}}}}},
		{Name: "canary", Version: 8, Spec: &apiv1.Resource_Route{Route: &apiv1.Route{Service: "orders"}}},
	}
	m.want(t, `
KIND     NAME    VERSION  SERVICE
service  orders  7        orders
route    canary  8        orders
`, "get")
	const orders = `kind: service
name: orders
version: 7
protocol: http
timeout:
  request: 15s
subsets:
  v2:
    meta.version: "2"
`
	const canary = "kind: route\nname: canary\nversion: 8\nservice: orders\n"
	m.want(t, orders+"---\n"+canary, "get", "-o", "yaml")
	m.want(t, orders, "get", "service", "orders", "-o", "yaml")
	m.want(t, `
{
  "kind": "route",
  "name": "canary",
  "version": 8,
  "service": "orders"
}
`, "get", "route", "canary", "-o", "json")
	m.want(t, `
[
  {
    "kind": "route",
    "name": "canary",
    "version": 8,
    "service": "orders"
  }
]
`, "get", "route", "-o", "json")
	m.want(t, "[]\n", "get", "policy", "-o", "json")
	_, stderr, exit := m.command(t, "get", "route", "cannary")
	if exit != exitFailure || !strings.Contains(stderr, `there is no route "cannary"`) {
		t.Errorf("exit %d: %s", exit, stderr)
	}
}

func TestDelete(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	m.want(t, "route canary deleted\n", "delete", "route", "canary")
	m.problems = []*apiv1.Problem{{Message: `route "canary" needs it`, Fix: "delete the route first"}}
	_, stderr, exit := m.command(t, "delete", "service", "orders")
	compare(t, `
meshd: the service "orders" cannot be deleted
  cause:  route "canary" needs it
  effect: nothing was changed
  next:   delete the route first
`, stderr)
	if exit != exitFailure {
		t.Errorf("exit %d", exit)
	}
}
