package local

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/meshd/meshd/agent/caller"
	"github.com/meshd/meshd/agent/check"
	apiv1 "github.com/meshd/meshd/api/v1"
)

const webID, dbID = "spiffe://mesh/svc/web", "spiffe://mesh/svc/db"

// A host is what a Local finds on its host.
type host struct {
	t     *testing.T
	local *Local
	files string

	mu      sync.Mutex
	units   map[uint16]string
	reports map[string]func(check.Result) // of checks, by what they check
	stopped map[string]bool
}

// bubble runs a test of a started Local in fake time.
func bubble(t *testing.T, test func(t *testing.T, h *host)) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{
			t: t, files: t.TempDir(),
			units: map[uint16]string{}, reports: map[string]func(check.Result){}, stopped: map[string]bool{},
		}
		dir := t.TempDir()
		h.start(dir)
		test(t, h)
		h.local.Stop()
	})
}

func (h *host) start(dir string) {
	h.t.Helper()
	l, err := Open(Config{
		NodeID: "n1", TrustDomain: "mesh", DeclaredDir: filepath.Join(dir, "declared"), ServicesDir: h.files,
		ListenerUnit: h.unit,
		Logger:       slog.New(slog.DiscardHandler),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	l.startCheck = h.startCheck
	l.Start()
	h.local = l
}

func (h *host) unit(port uint16) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.units[port], nil
}

func (h *host) setUnit(port uint16, unit string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.units[port] = unit
}

func (h *host) startCheck(spec *apiv1.CheckSpec, port uint16, report func(check.Result)) (stop func()) {
	key := fmt.Sprintf("%s%s on %d", spec.GetHttp(), spec.GetTcp(), port)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reports[key], h.stopped[key] = report, false
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.stopped[key] = true
	}
}

// report gives the function by which a running check reports.
func (h *host) report(key string) func(check.Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reports[key]
}

func (h *host) isStopped(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stopped[key]
}

func (h *host) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.files, name), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// poll lets the next look at the files pass.
func (h *host) poll() {
	time.Sleep(pollInterval)
	synctest.Wait()
}

// changed reports whether there was a change since the last call.
func (h *host) changed() bool {
	select {
	case <-h.local.Changes():
		return true
	default:
		return false
	}
}

// ids of the services in force, with their sources.
func (h *host) ids() (ids []string) {
	for _, s := range h.local.State().Services {
		ids = append(ids, s.Declaration.GetId()+" by "+filepath.Base(s.Source))
	}
	return ids
}

func (h *host) check(want ...string) {
	h.t.Helper()
	if diff := cmp.Diff(want, h.ids()); diff != "" {
		h.t.Errorf("services (-want +got)\n%s", diff)
	}
}

// problem checks that there is one problem, or none when words is empty.
func (h *host) problem(words string) {
	h.t.Helper()
	got := strings.Join(h.local.State().Problems, "\n")
	if words == "" && got != "" || !strings.Contains(got, words) {
		h.t.Errorf("problems:\n%s\nwant %q", got, words)
	}
}

func declaration(name string, port uint32) *apiv1.Declaration {
	return &apiv1.Declaration{Name: name, Port: port}
}

func TestFiles(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		h.check()
		h.write("web.yaml", "name: web\nport: 3000\ntags: [blue]\nmeta: {version: \"2\"}\nweight: 3\nprotocol: http\n")
		h.write("notes.txt", "not a declaration")
		h.poll()
		h.check("web by web.yaml")
		want := []*apiv1.Instance{{
			NodeId: "n1", Id: "web", Service: "web", Port: 3000, Protocol: apiv1.Protocol_PROTOCOL_HTTP, Tags: []string{"blue"},
			Meta: map[string]string{"version": "2"}, Weight: 3, Health: apiv1.Health_HEALTH_PASSING,
		}}
		if diff := cmp.Diff(want, h.local.State().Instances, protocmp.Transform()); diff != "" {
			t.Errorf("instances (-want +got)\n%s", diff)
		}
		if !h.changed() {
			t.Error("no change was told")
		}
		h.poll()
		if h.changed() {
			t.Error("a change was told where there was none")
		}
		if err := os.Remove(filepath.Join(h.files, "web.yaml")); err != nil {
			t.Fatal(err)
		}
		h.poll()
		h.check()
	})
}

// A file that is broken by an edit stays in force as it was, and says so.
func TestBrokenFile(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		h.write("web.yaml", "name: web\nport: 3000\n")
		h.poll()
		h.write("web.yaml", "name: web\nport: [3000\n")
		h.write("db.yaml", "name: db\nport: 5432\n")
		h.poll()
		h.check("db by db.yaml", "web by web.yaml")
		h.problem("web.yaml:2")
		h.problem("stays in force until")
		h.write("web.yaml", "name: web\nport: 3001\n")
		h.poll()
		h.check("db by db.yaml", "web by web.yaml")
		h.problem("")
		if port := h.local.State().Instances[1].Port; port != 3001 {
			t.Errorf("port %d", port)
		}
	})
}

func TestDeclare(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		undo, err := h.local.Add(declaration("web", 3000))
		if err != nil {
			t.Fatal(err)
		}
		h.check("web by cli")
		if !h.changed() {
			t.Error("no change was told")
		}
		change, err := h.local.Add(declaration("web", 4000))
		if err != nil {
			t.Fatal(err)
		}
		if err := change(); err != nil || h.local.State().Instances[0].Port != 3000 {
			t.Errorf("after undoing a change: %v, %v", h.local.State().Instances, err)
		}
		if err := undo(); err != nil {
			t.Fatal(err)
		}
		h.check()
		if err := h.local.Remove("web"); !errors.Is(err, ErrNotDeclared) {
			t.Errorf("removing what is not there: %v", err)
		}
		if _, err := h.local.Add(&apiv1.Declaration{Name: "Web"}); err == nil || !strings.Contains(err.Error(), "port") || !strings.Contains(err.Error(), "name") {
			t.Errorf("a wrong declaration: %v", err)
		}
	})
}

func TestDeclarationsSurviveRestart(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		if _, err := h.local.Add(&apiv1.Declaration{Name: "web", Id: "web:1", Port: 3000, Tags: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
		before := h.local.State().Instances
		h.local.Stop()
		h.start(filepath.Dir(h.local.cfg.DeclaredDir))
		if diff := cmp.Diff(before, h.local.State().Instances, protocmp.Transform()); diff != "" {
			t.Errorf("(-before +after)\n%s", diff)
		}
		if err := h.local.Remove("web:1"); err != nil {
			t.Fatal(err)
		}
		h.check()
	})
}

// What a file declares is changed in the file.
func TestFileBeforeCommandLine(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		if _, err := h.local.Add(declaration("web", 3000)); err != nil {
			t.Fatal(err)
		}
		h.write("a.yaml", "name: web\nport: 4000\n")
		h.write("b.yaml", "name: web\nport: 5000\n")
		h.poll()
		h.check("web by a.yaml")
		h.problem("and by cli, and the first counts")
		h.problem("b.yaml, and the first counts")
		if _, err := h.local.Add(declaration("web", 3001)); err == nil || !strings.Contains(err.Error(), "a.yaml: change it there") {
			t.Errorf("got %v", err)
		}
		if err := h.local.Remove("web"); err == nil || !strings.Contains(err.Error(), "a.yaml: remove it there") {
			t.Errorf("got %v", err)
		}
	})
}

func TestUnreadableFolder(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		h.write("web.yaml", "name: web\nport: 3000\n")
		h.poll()
		aside := h.files + ".aside"
		if err := errors.Join(os.Rename(h.files, aside), os.WriteFile(h.files, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		h.poll()
		h.check("web by web.yaml")
		h.problem("cannot be read")
		if err := errors.Join(os.Remove(h.files), os.Rename(aside, h.files)); err != nil {
			t.Fatal(err)
		}
		h.poll()
		h.problem("")
	})
}

func TestSpeakers(t *testing.T) {
	f := func(name, files string, units map[uint16]string, want caller.Table, problem string) {
		t.Helper()
		bubble(t, func(t *testing.T, h *host) {
			for port, unit := range units {
				h.setUnit(port, unit)
			}
			h.write("all.yaml", files)
			h.poll()
			if diff := cmp.Diff(&want, h.local.State().Speakers); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", name, diff)
			}
			h.problem(problem)
		})
	}
	table := func(units map[string]string, users map[uint32]string) caller.Table {
		return caller.Table{Units: units, Users: users}
	}
	none := map[uint32]string{}
	f("named", "name: web\nport: 1\nunit: a.service\n", nil, table(map[string]string{"a.service": webID}, none), "")
	f("found", "name: web\nport: 1\n", map[uint16]string{1: "b.service"}, table(map[string]string{"b.service": webID}, none), "")
	f("not found", "name: web\nport: 1\n", nil, table(map[string]string{}, none), "")
	f("named rather than found", "name: web\nport: 1\nunit: a.service\n", map[uint16]string{1: "b.service"}, table(map[string]string{"a.service": webID}, none), "")
	f("user", "name: web\nport: 1\nuser: root\n", map[uint16]string{1: "b.service"}, table(map[string]string{}, map[uint32]string{0: webID}), "")
	f("user by number", "name: web\nport: 1\nuser: \"4711\"\n", nil, table(map[string]string{}, map[uint32]string{4711: webID}), "")
	f("unknown user", "name: web\nport: 1\nuser: nobody-at-all\n", nil, table(map[string]string{}, none), `there is no user "nobody-at-all"`)
	f("two instances in one unit", "name: web\nport: 1\n---\nname: web\nid: web2\nport: 2\n", map[uint16]string{1: "b.service", 2: "b.service"},
		table(map[string]string{"b.service": webID}, none), "")
	f("two services in one unit", "name: db\nport: 1\n---\nname: web\nport: 2\n", map[uint16]string{1: "b.service", 2: "b.service"},
		table(map[string]string{"b.service": dbID}, none), "service web: b.service speaks as another service already")
	f("named goes before found", "name: db\nport: 1\n---\nname: web\nport: 2\nunit: b.service\n", map[uint16]string{1: "b.service"},
		table(map[string]string{"b.service": webID}, none), "service db: b.service speaks as another service already")
}

// Whoever takes the port later does not become the service.
func TestFoundUnitStays(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		h.write("web.yaml", "name: web\nport: 3000\n")
		h.poll()
		if s := h.local.State(); len(s.Speakers.Units) != 0 {
			t.Errorf("speakers %v", s.Speakers)
		}
		h.setUnit(3000, "web.service")
		h.changed()
		h.poll()
		if !h.changed() || h.local.State().Services[0].Unit != "web.service" {
			t.Errorf("state %+v", h.local.State().Services[0])
		}
		h.setUnit(3000, "thief.service")
		h.poll()
		if h.changed() || h.local.State().Services[0].Unit != "web.service" {
			t.Errorf("state %+v", h.local.State().Services[0])
		}
	})
}

func TestHealth(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		health := func(want apiv1.Health, output string, changed bool) {
			t.Helper()
			s := h.local.State().Services[0]
			if s.Health != want || s.Output != output || h.local.State().Instances[0].Health != want {
				t.Errorf("health %v %q, want %v %q", s.Health, s.Output, want, output)
			}
			if h.changed() != changed {
				t.Errorf("change told: %t", !changed)
			}
			if h.local.State().Settled() != (want != apiv1.Health_HEALTH_UNSPECIFIED) {
				t.Error("settled too early, or not at all")
			}
		}
		h.write("web.yaml", "name: web\nport: 3000\nchecks: [{http: /healthz}, {tcp: \":\"}]\n")
		h.poll()
		health(apiv1.Health_HEALTH_UNSPECIFIED, "", true)
		h.report("/healthz on 3000")(check.Result{Passing: true, Output: "200"})
		health(apiv1.Health_HEALTH_UNSPECIFIED, "http /healthz: 200", false)
		h.report(": on 3000")(check.Result{Passing: true, Output: "connected"})
		health(apiv1.Health_HEALTH_PASSING, "http /healthz: 200; tcp :: connected", true)
		h.report("/healthz on 3000")(check.Result{Output: "503"})
		health(apiv1.Health_HEALTH_CRITICAL, "http /healthz: 503; tcp :: connected", true)
		h.report("/healthz on 3000")(check.Result{Output: "no answer"})
		health(apiv1.Health_HEALTH_CRITICAL, "http /healthz: no answer; tcp :: connected", false)

		old := h.report("/healthz on 3000")
		h.write("web.yaml", "name: web\nport: 3001\nchecks: [{http: /healthz}]\n")
		h.poll()
		health(apiv1.Health_HEALTH_UNSPECIFIED, "", true)
		old(check.Result{Passing: true, Output: "too late"})
		health(apiv1.Health_HEALTH_UNSPECIFIED, "", false)
		if !h.isStopped("/healthz on 3000") || !h.isStopped(": on 3000") || h.isStopped("/healthz on 3001") {
			t.Error("not the old checks were stopped")
		}
		h.write("web.yaml", "name: web\nport: 3001\ntags: [a]\nchecks: [{http: /healthz}]\n")
		h.poll()
		if h.isStopped("/healthz on 3001") {
			t.Error("a check was begun anew because of a tag")
		}
	})
}

// Callers tell the instances of a host apart by service and port.
func TestSamePort(t *testing.T) {
	bubble(t, func(t *testing.T, h *host) {
		h.write("a.yaml", "name: web\nport: 3000\n---\nname: other\nport: 3000\n---\nname: web\nid: web2\nport: 3000\n")
		h.poll()
		h.check("other by a.yaml", "web by a.yaml")
		h.problem("service web2 of ")
	})
}
