package compile

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/meshd/meshd/agent/slice"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
)

var update = flag.Bool("update", false, "write the results into testdata")

// TestGolden compiles every testdata/*.txtar: resources as users write them,
// endpoints as `SERVICE NODE/ID ADDRESS [WORD|KEY=VALUE]...`, what this host
// (h1) runs as `SERVICE ID [WORD|KEY=VALUE]...`, and the plan that they give.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in := Input{Slice: slice.Empty(), TrustDomain: "mesh", Node: "h1", NodeID: "n1", Address: netip.MustParseAddr("10.0.0.1"), Loopback: netip.MustParsePrefix("127.128.0.0/24")}
	in.Slice.Version = 7
	var plan *txtar.File
	for i := range archive.Files {
		f := &archive.Files[i]
		switch f.Name {
		case "resources.yaml":
			readResources(t, in.Slice, f.Data)
		case "endpoints":
			eachLine(f.Data, func(words []string) { readEndpoint(t, in.Slice, words) })
		case "local":
			eachLine(f.Data, func(words []string) { in.Instances = append(in.Instances, readInstance(t, in.Slice, words)) })
		case "plan":
			plan = f
		default:
			t.Fatalf("%s has an unknown section %s", file, f.Name)
		}
	}
	number(in.Slice)
	got := dump(Compile(in))
	if *update {
		plan.Data = []byte(got)
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(plan.Data), got); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", file, diff)
	}
}

// number gives the services places in the order of their names.
func number(s *slice.Slice) {
	for i, service := range s.Snapshot().Services {
		service.Vip = uint32(i + 1)
		if service.Name == "far" {
			service.Vip = 100000
		}
	}
}

func serviceOf(s *slice.Slice, name string) *apiv1.ServiceSlice {
	if s.Services[name] == nil {
		s.Services[name] = &apiv1.ServiceSlice{Name: name}
	}
	return s.Services[name]
}

func readResources(t *testing.T, s *slice.Slice, data []byte) {
	docs, err := config.DecodeResources("resources.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		switch spec := d.Resource.GetSpec().(type) {
		case *apiv1.Resource_Service:
			serviceOf(s, d.Resource.Name).Config = spec.Service
		case *apiv1.Resource_Route:
			service := serviceOf(s, spec.Route.Service)
			service.Routes = append(service.Routes, d.Resource)
		case *apiv1.Resource_Policy:
			service := serviceOf(s, spec.Policy.Service)
			service.Policies = append(service.Policies, d.Resource)
		case *apiv1.Resource_Mesh:
			s.Mesh = spec.Mesh
		}
	}
}

func eachLine(data []byte, f func(words []string)) {
	for line := range strings.Lines(string(data)) {
		if words := strings.Fields(line); len(words) > 0 {
			f(words)
		}
	}
}

func readEndpoint(t *testing.T, s *slice.Slice, words []string) {
	node, id, _ := strings.Cut(words[1], "/")
	host, port, _ := strings.Cut(words[2], ":")
	inbound, err := strconv.Atoi(port)
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	e := &apiv1.Endpoint{
		Node: node, NodeId: strings.Replace(node, "h", "n", 1), Id: id, Address: host, InboundPort: uint32(inbound),
		Health: apiv1.Health_HEALTH_PASSING, NodeState: apiv1.NodeState_NODE_STATE_ALIVE, Meta: map[string]string{},
	}
	for _, word := range words[3:] {
		readWord(t, e, word)
	}
	s.Nodes[node] = &apiv1.Node{Id: e.NodeId, Name: node, Address: host, State: e.NodeState}
	service := serviceOf(s, words[0])
	service.Endpoints = append(service.Endpoints, e)
}

func readInstance(t *testing.T, s *slice.Slice, words []string) *apiv1.Instance {
	e := &apiv1.Endpoint{Health: apiv1.Health_HEALTH_PASSING, Meta: map[string]string{}}
	known := true
	for _, word := range words[2:] {
		if word == "unknown" {
			known = false
			continue
		}
		readWord(t, e, word)
	}
	if known {
		serviceOf(s, words[0])
	}
	return &apiv1.Instance{
		NodeId: "n1", Service: words[0], Id: words[1], Port: e.Port, Protocol: e.Protocol,
		Tags: e.Tags, Meta: e.Meta, Weight: e.Weight, Health: e.Health,
	}
}

func readWord(t *testing.T, e *apiv1.Endpoint, word string) {
	key, value, _ := strings.Cut(word, "=")
	number, _ := strconv.Atoi(value)
	switch key {
	case "port":
		e.Port = uint32(number)
	case "weight":
		e.Weight = uint32(number)
	case "http":
		e.Protocol = apiv1.Protocol_PROTOCOL_HTTP
	case "grpc":
		e.Protocol = apiv1.Protocol_PROTOCOL_GRPC
	case "tcp":
		e.Protocol = apiv1.Protocol_PROTOCOL_TCP
	case "critical":
		e.Health = apiv1.Health_HEALTH_CRITICAL
	case "lost":
		e.NodeState = apiv1.NodeState_NODE_STATE_LOST
	case "left":
		e.NodeState = apiv1.NodeState_NODE_STATE_LEFT
	case "tag":
		e.Tags = append(e.Tags, value)
	default:
		name, ok := strings.CutPrefix(key, "meta.")
		if !ok {
			t.Fatalf("unknown word %q", word)
		}
		e.Meta[name] = value
	}
}
