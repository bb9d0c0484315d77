package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/meshtest"
)

// inPages tells what each page of one row has.
func inPages(t *testing.T, ask func(*apiv1.Page) (row string, next string, err error)) string {
	t.Helper()
	var rows []string
	p := &apiv1.Page{Size: 1}
	for range 20 {
		row, next, err := ask(p)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
		if next == "" {
			return strings.Join(rows, " ")
		}
		p = &apiv1.Page{Size: 1, After: next}
	}
	t.Fatalf("the listing has no end: %v", rows)
	return ""
}

func TestEveryListingComesInPages(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		for _, name := range []string{"h2", "h1", "h3"} {
			mustRegister(t, m.JoinFakeAgent(name).Connect(m.Servers[0]), 1, instance("on-"+name, 80))
		}
		a := m.Servers[0].Admin()
		apply(t, m.Servers[0], policyOf("web"), policyOf("db"), service("web"))
		f := func(what, got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("%s come as %q, want %q", what, got, want)
			}
		}
		f("hosts", inPages(t, func(p *apiv1.Page) (string, string, error) {
			r, err := a.Members(t.Context(), &apiv1.MembersRequest{Page: p})
			return r.GetNodes()[0].GetName(), r.GetNext(), err
		}), "h1 h2 h3")
		f("services", inPages(t, func(p *apiv1.Page) (string, string, error) {
			r, err := a.ListServices(t.Context(), &apiv1.ListServicesRequest{Page: p, Prefix: "on-"})
			return r.GetServices()[0].GetName(), r.GetNext(), err
		}), "on-h1 on-h2 on-h3")
		f("resources", inPages(t, func(p *apiv1.Page) (string, string, error) {
			r, err := a.GetResources(t.Context(), &apiv1.GetResourcesRequest{Page: p})
			return r.GetResources()[0].GetName(), r.GetNext(), err
		}), "db web web")
		tokens := strings.Fields(inPages(t, func(p *apiv1.Page) (string, string, error) {
			r, err := a.ListTokens(t.Context(), &apiv1.ListTokensRequest{Page: p})
			return r.GetTokens()[0].GetId(), r.GetNext(), err
		}))
		if len(tokens) != 3 || tokens[0] >= tokens[1] || tokens[1] >= tokens[2] {
			t.Errorf("join tokens come as %v", tokens)
		}
		var last uint64
		records := strings.Fields(inPages(t, func(p *apiv1.Page) (string, string, error) {
			r, err := a.Audit(t.Context(), &apiv1.AuditRequest{Page: p})
			if at := r.GetRecords()[0].GetIndex(); last != 0 && at >= last {
				t.Errorf("record %d comes after %d", at, last)
			} else {
				last = at
			}
			return strings.ReplaceAll(r.GetRecords()[0].GetAction(), " ", "-"), r.GetNext(), err
		}))
		if want := strings.Fields("apply join token-create join token-create join token-create"); !cmp.Equal(records, want) {
			t.Errorf("records come as %v", records)
		}
		if _, err := a.Audit(t.Context(), &apiv1.AuditRequest{Page: &apiv1.Page{After: "pAA"}}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a page after nothing: %v", err)
		}
	})
}

func TestFilters(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		blue, green := instance("web", 80), instance("web", 81)
		blue.Tags, blue.Meta = []string{"blue"}, map[string]string{"version": "1", "zone": "a"}
		green.Tags, green.Meta, green.Health = []string{"green"}, map[string]string{"version": "2"}, apiv1.Health_HEALTH_CRITICAL
		mustRegister(t, m.JoinFakeAgent("h1").Connect(m.Servers[0]), 1, blue, instance("db", 82))
		mustRegister(t, m.JoinFakeAgent("h2").Connect(m.Servers[0]), 1, green)
		a := m.Servers[0].Admin()
		services := func(want string, r *apiv1.ListServicesRequest) {
			t.Helper()
			reply, err := a.ListServices(t.Context(), r)
			var got []string
			for _, s := range reply.GetServices() {
				for _, e := range s.Endpoints {
					got = append(got, s.Name+"@"+e.Node)
				}
			}
			slices.Sort(got) // instances come by the ids of their hosts
			if strings.Join(got, " ") != want || err != nil {
				t.Errorf("%v gave %v, %v, want %s", r, got, err, want)
			}
		}
		services("db@h1 web@h1 web@h2", &apiv1.ListServicesRequest{})
		services("web@h1", &apiv1.ListServicesRequest{Tag: "blue"})
		services("db@h1 web@h1", &apiv1.ListServicesRequest{Node: "h1"})
		services("web@h2", &apiv1.ListServicesRequest{Health: apiv1.Health_HEALTH_CRITICAL})
		services("web@h1", &apiv1.ListServicesRequest{Meta: map[string]string{"version": "1", "zone": "a"}})
		services("", &apiv1.ListServicesRequest{Meta: map[string]string{"version": "2", "zone": "a"}})
		services("web@h1 web@h2", &apiv1.ListServicesRequest{Prefix: "w"})
		services("", &apiv1.ListServicesRequest{Name: "web", Tag: "red"})

		members := func(want string, r *apiv1.MembersRequest) {
			t.Helper()
			reply, err := a.Members(t.Context(), r)
			var got []string
			for _, n := range reply.GetNodes() {
				got = append(got, n.Name)
			}
			if strings.Join(got, " ") != want || err != nil || len(reply.GetServers()) != 1 {
				t.Errorf("%v gave %v, %v, want %s", r, got, err, want)
			}
		}
		members("h1 h2", &apiv1.MembersRequest{State: apiv1.NodeState_NODE_STATE_ALIVE})
		members("", &apiv1.MembersRequest{State: apiv1.NodeState_NODE_STATE_LEFT})
		members("h2", &apiv1.MembersRequest{Prefix: "h2"})

		apply(t, m.Servers[0], policyOf("web"), service("web"), service("db"))
		resources := func(want string, r *apiv1.GetResourcesRequest) {
			t.Helper()
			reply, err := a.GetResources(t.Context(), r)
			var got []string
			for _, resource := range reply.GetResources() {
				got = append(got, resource.Name)
			}
			if strings.Join(got, " ") != want || err != nil {
				t.Errorf("%v gave %v, %v, want %s", r, got, err, want)
			}
		}
		resources("web db web", &apiv1.GetResourcesRequest{})
		resources("web web", &apiv1.GetResourcesRequest{Service: "web"})
		resources("web", &apiv1.GetResourcesRequest{Kind: "policy"})
		resources("db", &apiv1.GetResourcesRequest{Prefix: "d"})
	})
}

func TestTheAudit(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		a := m.Follower().Admin()
		start := time.Now()
		time.Sleep(time.Minute)
		if _, err := a.Apply(t.Context(), &apiv1.ApplyRequest{Resources: []*apiv1.Resource{service("web"), policyOf("web")}}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Delete(t.Context(), &apiv1.DeleteRequest{Kind: "route", Name: "absent"}); status.Code(err) != codes.NotFound {
			t.Fatal(err)
		}
		stale := service("web")
		stale.Version = 1
		if reply, err := a.Apply(t.Context(), &apiv1.ApplyRequest{Resources: []*apiv1.Resource{stale}}); err != nil || len(reply.Problems) != 1 {
			t.Fatal(reply, err)
		}
		f := func(r *apiv1.AuditRequest, want ...string) {
			t.Helper()
			reply, err := m.Leader().Admin().Audit(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, record := range reply.Records {
				got = append(got, fmt.Sprintf("%s %s %v %s", record.Actor, record.Action, record.Objects, record.Refusal))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%v (-want +got):\n%s", r, diff)
			}
		}
		all := []string{"user/0 apply [service/web] conflict", "user/0 delete [route/absent] not found", "user/0 apply [service/web policy/web] "}
		f(&apiv1.AuditRequest{SinceUnix: start.Unix() + 30}, all...)
		f(&apiv1.AuditRequest{Action: "delete"}, all[1])
		f(&apiv1.AuditRequest{Object: "policy/*"}, all[2])
		f(&apiv1.AuditRequest{Object: "service/web"}, all[0], all[2])
		f(&apiv1.AuditRequest{Actor: "token/*"})
		f(&apiv1.AuditRequest{UntilUnix: start.Unix() + 30, Object: "server/s3", Action: "join"}, "join-token/"+joinToken(t, m, "s3")+" join [server/s3] ")
	})
}

// joinToken is the id of the token that a server has joined with.
func joinToken(t *testing.T, m *meshtest.Mesh, server string) string {
	t.Helper()
	reply, err := m.Leader().Admin().Audit(t.Context(), &apiv1.AuditRequest{Object: "server/" + server, Action: "join"})
	if err != nil || len(reply.Records) != 1 {
		t.Fatal(reply, err)
	}
	id := strings.TrimPrefix(reply.Records[0].Actor, "join-token/")
	tokens, err := m.Leader().Admin().ListTokens(t.Context(), &apiv1.ListTokensRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens.Tokens {
		if token.Id == id && token.Server {
			return id
		}
	}
	t.Fatalf("%s joined with a token %q that is not there", server, id)
	return ""
}

func TestDeletingAVersion(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		a := m.Servers[0].Admin()
		apply(t, m.Servers[0], service("web"))
		reply, err := a.GetResources(t.Context(), &apiv1.GetResourcesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		version := reply.Resources[0].Version
		stale, err := a.Delete(t.Context(), &apiv1.DeleteRequest{Kind: "service", Name: "web", Version: version - 1})
		if err != nil || len(stale.Problems) != 1 || !strings.Contains(stale.Problems[0].Message, fmt.Sprintf("read at version %d and is at version %d", version-1, version)) {
			t.Errorf("deleting another version gave %v, %v", stale, err)
		}
		if done, err := a.Delete(t.Context(), &apiv1.DeleteRequest{Kind: "service", Name: "web", Version: version}); err != nil || done.Change.GetAction() != "deleted" {
			t.Errorf("deleting it gave %v, %v", done, err)
		}
	})
}

// A change that is too large is refused with nothing done.
func TestTooManyResources(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		set := make([]*apiv1.Resource, 10_001)
		for i := range set {
			set[i] = service(fmt.Sprintf("s%d", i))
		}
		_, err := m.Servers[0].Admin().Apply(t.Context(), &apiv1.ApplyRequest{Resources: set})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "10000 is the most") {
			t.Errorf("10,001 resources gave %v", err)
		}
	})
}
