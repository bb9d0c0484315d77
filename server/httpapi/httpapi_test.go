package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// fake decodes what it is asked, and answers with an error or with nothing.
type fake struct {
	request proto.Message
	err     error
	stream  func(method string, stream grpc.ServerStream) error
}

func (f *fake) Call(_ context.Context, method string, decode func(proto.Message) error) (proto.Message, error) {
	for _, m := range apiv1.Admin_ServiceDesc.Methods {
		if m.MethodName != method {
			continue
		}
		var reply any
		_, err := m.Handler(apiv1.UnimplementedAdminServer{}, context.Background(), func(request any) error {
			f.request = request.(proto.Message)
			return decode(f.request)
		}, func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) { return nil, nil })
		if err == nil {
			err = f.err
		}
		switch method {
		case "Apply":
			reply = &apiv1.ApplyReply{}
		case "Delete":
			reply = &apiv1.DeleteReply{}
		case "GetResources":
			reply = &apiv1.GetResourcesReply{}
		default:
			reply = &apiv1.ListServicesReply{Services: []*apiv1.ServiceSlice{{}}}
		}
		return reply.(proto.Message), err
	}
	return nil, errors.New("there is no method " + method)
}

func (f *fake) Stream(method string, stream grpc.ServerStream) error { return f.stream(method, stream) }

func ask(t *testing.T, f *fake, r *http.Request) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	NewHandler(f).ServeHTTP(w, r)
	return w.Result()
}

func TestRequestsBecomeMessages(t *testing.T) {
	f := func(verb, target, body string, want proto.Message) {
		t.Helper()
		backend := &fake{}
		r := httptest.NewRequest(verb, target, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/json; charset=utf-8")
		}
		response := ask(t, backend, r)
		if response.StatusCode/100 != 2 && response.StatusCode != http.StatusNotFound {
			text, _ := io.ReadAll(response.Body)
			t.Errorf("%s %s: %s\n%s", verb, target, response.Status, text)
		}
		if diff := cmp.Diff(want, backend.request, protocmp.Transform()); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", verb, target, diff)
		}
	}
	f("GET", "/v1/status", "", &apiv1.StatusRequest{})
	f("GET", "/v1/members?stale=true&state=lost&prefix=vm&size=7&after=x", "", &apiv1.MembersRequest{
		Stale: true, State: apiv1.NodeState_NODE_STATE_LOST, Prefix: "vm", Page: &apiv1.Page{Size: 7, After: "x"}})
	f("GET", "/v1/services?tag=a&node=n&health=passing&meta=k=v&meta=x=y=z&prefix=p", "", &apiv1.ListServicesRequest{
		Tag: "a", Node: "n", Health: apiv1.Health_HEALTH_PASSING, Meta: map[string]string{"k": "v", "x": "y=z"}, Prefix: "p"})
	f("GET", "/v1/services/or%2Fders", "", &apiv1.ListServicesRequest{Name: "or/ders"})
	f("GET", "/v1/resources/route/orders?service=s", "", &apiv1.GetResourcesRequest{Kind: "route", Name: "orders", Service: "s"})
	f("PUT", "/v1/resources/mesh/mesh?dry_run=1", `{"kind": "mesh"}`, &apiv1.ApplyRequest{DryRun: true,
		Resources: []*apiv1.Resource{{Name: "mesh", Spec: &apiv1.Resource_Mesh{Mesh: &apiv1.Mesh{}}}}})
	f("DELETE", "/v1/resources/route/orders", "", &apiv1.DeleteRequest{Kind: "route", Name: "orders"})
	f("GET", "/v1/audit?since_unix=5&until_unix=9&actor=token/*&action=apply&object=route/*", "", &apiv1.AuditRequest{
		SinceUnix: 5, UntilUnix: 9, Actor: "token/*", Action: "apply", Object: "route/*"})
	f("POST", "/v1/tokens", `{"server": true}`, &apiv1.CreateTokenRequest{Server: true})
	f("DELETE", "/v1/tokens/3f9a", "", &apiv1.RevokeTokenRequest{Id: "3f9a"})
	f("DELETE", "/v1/hosts/vm1?force=true", "", &apiv1.RemoveHostRequest{Name: "vm1", Force: true})
	f("POST", "/v1/raft/transfer", `{"name": "vm2"}`, &apiv1.TransferLeadershipRequest{Name: "vm2"})
	f("POST", "/v1/raft/transfer", "", &apiv1.TransferLeadershipRequest{})
}

func TestEveryCodeHasAStatus(t *testing.T) {
	for code := codes.Code(1); code <= codes.Unauthenticated; code++ {
		response := ask(t, &fake{err: status.Error(code, "why")}, httptest.NewRequest("GET", "/v1/status", nil))
		var e struct{ Code, Message string }
		if err := json.NewDecoder(response.Body).Decode(&e); err != nil || response.StatusCode < 400 || e.Code == "" || e.Message != "why" {
			t.Errorf("%v gives %s, %+v, %v", code, response.Status, e, err)
		}
		if back := (&apiError{Code: e.Code}).GRPCStatus().Code(); asError(status.Error(back, "")).Code != e.Code {
			t.Errorf("%v is counted as %v", code, back)
		}
	}
}

func TestEveryEndpointIsOfAMethod(t *testing.T) {
	methods := map[string]bool{}
	for _, m := range apiv1.Admin_ServiceDesc.Methods {
		methods[m.MethodName] = true
	}
	for _, s := range apiv1.Admin_ServiceDesc.Streams {
		methods[s.StreamName] = true
	}
	for endpoint, method := range Endpoints() {
		if !methods[method] {
			t.Errorf("%s is of %s, which is no method", endpoint, method)
		}
		methods[method] = true
	}
	served := map[string]bool{}
	for _, method := range Endpoints() {
		served[method] = true
	}
	for method := range methods {
		if !served[method] {
			t.Errorf("%s has no endpoint", method)
		}
	}
}

func TestSnapshots(t *testing.T) {
	content := strings.Repeat("snapshot", 20_000)
	save := &fake{stream: func(_ string, s grpc.ServerStream) error {
		var r apiv1.SaveSnapshotRequest
		if err := s.RecvMsg(&r); err != nil || !r.Stale {
			t.Errorf("asked for %v, %v", &r, err)
		}
		for part := range strings.SplitAfterSeq(content, "shot") {
			if err := s.SendMsg(&apiv1.SnapshotChunk{Data: []byte(part)}); err != nil {
				return err
			}
		}
		return nil
	}}
	response := ask(t, save, httptest.NewRequest("GET", "/v1/snapshot?stale=true", nil))
	if got, err := io.ReadAll(response.Body); string(got) != content || err != nil || response.Header.Get("Content-Type") != snapshotType {
		t.Errorf("saved %d bytes, %v, %v", len(got), err, response.Header)
	}

	var got strings.Builder
	restore := &fake{stream: func(_ string, s grpc.ServerStream) error {
		for first := true; ; first = false {
			var r apiv1.RestoreSnapshotRequest
			err := s.RecvMsg(&r)
			if errors.Is(err, io.EOF) {
				return s.SendMsg(&apiv1.RestoreSnapshotReply{Index: 7})
			}
			if err != nil || r.OtherMesh != first {
				return err
			}
			got.Write(r.Data)
		}
	}}
	r := httptest.NewRequest("PUT", "/v1/snapshot?other_mesh=true", strings.NewReader(content))
	r.Header.Set("Content-Type", snapshotType)
	response = ask(t, restore, r)
	if text, err := io.ReadAll(response.Body); got.String() != content || !strings.Contains(string(text), `"index": "7"`) {
		t.Errorf("restored %d bytes, %s %v", got.Len(), text, err)
	}
}

// A snapshot that breaks off is no snapshot: the client must see that.
func TestASnapshotThatBreaksOff(t *testing.T) {
	f := func(pieces int, aborts bool) {
		t.Helper()
		defer func() {
			if aborted := recover() == http.ErrAbortHandler; aborted != aborts {
				t.Errorf("after %d pieces the connection is cut: %v", pieces, aborted)
			}
		}()
		response := ask(t, &fake{stream: func(_ string, s grpc.ServerStream) error {
			for range pieces {
				s.SendMsg(&apiv1.SnapshotChunk{Data: []byte("x")})
			}
			return status.Error(codes.Unavailable, "lost")
		}}, httptest.NewRequest("GET", "/v1/snapshot", nil))
		if response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("got %s", response.Status)
		}
	}
	f(0, false)
	f(1, true)
}

// Whatever a request is, it is answered: with JSON, and an error has its parts.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/v1/members?state=alive&size=3", "")
	f.Add("PUT", "/v1/resources/route/x", `{"kind": "route", "name": "x", "service": "x"}`)
	f.Add("POST", "/v1/apply?dry_run=true", `[{"kind": "mesh"}, {"kind": "service", "name": "a", "subsets": {"v": {"tag": "x"}}}]`)
	f.Add("POST", "/v1/tokens", `{"ttl": "3600s", "allowed_services": ["a*"]}`)
	f.Add("DELETE", "/v1/servers/%2e%2e", "")
	f.Add("GET", "/v1/services?meta==&meta=a=b&%zz", "x")
	f.Fuzz(func(t *testing.T, verb, target, body string) {
		r, err := http.NewRequest(verb, "http://meshd"+target, strings.NewReader(body))
		if err != nil || strings.HasPrefix(r.URL.Path, "/v1/snapshot") {
			return
		}
		if r.URL.Path == "" {
			r.URL.Path = "/" // as http.Server has it
		}
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		NewHandler(&fake{}).ServeHTTP(w, r)
		var e struct{ Code, Message string }
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil && verb != "HEAD" {
			t.Fatalf("%s %q: %d with %q", verb, target, w.Code, w.Body)
		}
		if w.Code >= 400 && (e.Code == "" || e.Message == "") || w.Code >= 300 && w.Code < 400 {
			t.Fatalf("%s %q: %d with %q", verb, target, w.Code, w.Body)
		}
	})
}
