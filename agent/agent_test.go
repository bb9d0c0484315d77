package agent

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshd/meshd/agent/control"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/memnet"
)

func TestAgentLearnsAndRegisters(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		cfg := m.join()
		file := filepath.Join(cfg.ServicesDir, "web.yaml")
		if err := os.WriteFile(file, []byte("name: web\nport: 3000\nprotocol: http\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		a := startAgent(t, cfg)
		defer a.Stop()
		<-a.Ready()
		time.Sleep(2 * time.Second)
		if diff := cmp.Diff([]string{"web 1"}, m.registered()); diff != "" {
			t.Errorf("registered (-want +got)\n%s", diff)
		}
		synctest.Wait()
		s, version, acks := a.Status(), m.pushed(), m.acknowledged()
		if s.Server != "s1" || s.Node != "h1" || s.NodeId != "id-h1" || s.SliceVersion != version || len(s.Problems) > 0 {
			t.Errorf("status %v, slice %d", s, version)
		}
		if len(s.Certificates) != 2 || s.Certificates[1].Identity != "spiffe://mesh/svc/web" {
			t.Errorf("certificates %v", s.Certificates)
		}
		if ack := acks[len(acks)-1]; ack.GetVersion() != version {
			t.Errorf("acknowledged %v of %d", ack, version)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		a.Reload()
		synctest.Wait()
		if len(m.registered()) != 0 || a.certs.Certificate("spiffe://mesh/svc/web") != nil {
			t.Errorf("a service that is gone: %v", m.registered())
		}
	})
}

// A host starts with what it knew, while no server answers.
func TestAgentStartsWithoutServers(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		cfg := m.join()
		a := startAgent(t, cfg)
		if _, err := a.AddService(t.Context(), &apiv1.Declaration{Name: "web", Port: 3000}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		version := a.Status().SliceVersion
		a.Stop()
		m.stop()

		a = startAgent(t, cfg)
		select {
		case <-a.Ready():
		default:
			t.Error("not ready by what it knew")
		}
		time.Sleep(time.Minute)
		s := a.Status()
		if s.SliceVersion != version || len(s.Certificates) != 2 || s.Server != "" {
			t.Errorf("status %v", s)
		}
		if len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "no server is connected") {
			t.Errorf("problems %q", s.Problems)
		}
		m.start()
		time.Sleep(6 * time.Second)
		if s := a.Status(); s.Server != "s1" || len(s.Problems) != 0 {
			t.Errorf("status once the server is back: %v", s)
		}
		a.Stop()
	})
}

// Without anything known from before a damaged cache is no reason to stop.
func TestAgentWithDamagedCache(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		cfg := m.join()
		m.stop()
		if err := os.WriteFile(slicePath(cfg.DataDir), []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
		a := startAgent(t, cfg)
		time.Sleep(time.Minute)
		select {
		case <-a.Ready():
			t.Error("ready with nothing known")
		default:
		}
		if a.healthy() == nil {
			t.Error("healthy with nothing known")
		}
		m.start()
		<-a.Ready()
		if err := a.healthy(); err != nil {
			t.Error(err)
		}
		a.Stop()
	})
}

func TestAddService(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		a := startAgent(t, m.join())
		defer a.Stop()
		reply, err := a.AddService(t.Context(), &apiv1.Declaration{Name: "web", Port: 3000, Protocol: apiv1.Protocol_PROTOCOL_TCP, Unit: "web.service"})
		if err != nil {
			t.Fatal(err)
		}
		if reply.Address != "127.128.0.1" || reply.Unit != "web.service" || len(reply.Warnings) != 0 {
			t.Errorf("reply %v", reply)
		}
		m.do(func() { m.refusal = "not allowed here" })
		_, err = a.AddService(t.Context(), &apiv1.Declaration{Name: "db", Port: 5432})
		if refused := new(control.RefusedError); !errors.As(err, &refused) || refused.Reason != "not allowed here" {
			t.Errorf("refused: %v", err)
		}
		if s := a.Status(); len(s.Services) != 1 {
			t.Errorf("services after a refusal: %v", s.Services)
		}
		m.do(func() { m.refusal = "" })
		time.Sleep(6 * time.Second)
		if err := a.RemoveService(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		if len(m.registered()) != 0 {
			t.Errorf("registered after the removal: %v", m.registered())
		}
	})
}

func TestAddServiceWithoutServers(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		a := startAgent(t, m.join())
		defer a.Stop()
		<-a.Ready()
		m.stop()
		begin := time.Now()
		reply, err := a.AddService(t.Context(), &apiv1.Declaration{Name: "web", Port: 3000, Protocol: apiv1.Protocol_PROTOCOL_TCP})
		if err != nil || len(reply.Warnings) != 1 || reply.Address != "" {
			t.Errorf("%v, %v", reply, err)
		}
		if d := time.Since(begin); d != confirmTime {
			t.Errorf("it took %v", d)
		}
		m.start()
		time.Sleep(10 * time.Second)
		if diff := cmp.Diff([]string{"web 1"}, m.registered()); diff != "" {
			t.Errorf("registered (-want +got)\n%s", diff)
		}
	})
}

// An agent that is started again does not take healthy services out of the mesh
// only because they were not asked yet.
func TestRestartWaitsForChecks(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		cfg := m.join()
		l, err := cfg.Network.Listen(t.Context(), "tcp", "127.0.0.1:3000")
		if err != nil {
			t.Fatal(err)
		}
		application := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			io.WriteString(w, "ok")
		})}
		go application.Serve(l)
		defer application.Close()
		check := &apiv1.CheckSpec{Kind: &apiv1.CheckSpec_Http{Http: "/"}}
		a := startAgent(t, cfg)
		if _, err := a.AddService(t.Context(), &apiv1.Declaration{Name: "web", Port: 3000, Checks: []*apiv1.CheckSpec{check}}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"web 2"}, m.registered()); diff != "" {
			t.Errorf("before the first check (-want +got)\n%s", diff)
		}
		time.Sleep(1100 * time.Millisecond)
		if diff := cmp.Diff([]string{"web 1"}, m.registered()); diff != "" {
			t.Errorf("after the first check (-want +got)\n%s", diff)
		}
		a.Stop()
		m.do(func() { m.set = nil })
		a = startAgent(t, cfg)
		time.Sleep(900 * time.Millisecond)
		if len(m.registered()) != 0 {
			t.Errorf("registered before the check: %v", m.registered())
		}
		time.Sleep(200 * time.Millisecond)
		if diff := cmp.Diff([]string{"web 1"}, m.registered()); diff != "" {
			t.Errorf("after the restart (-want +got)\n%s", diff)
		}
		a.Stop()
	})
}

func TestLeave(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		cfg := m.join()
		a := startAgent(t, cfg)
		<-a.Ready()
		a.Stop()
		synctest.Wait()
		if m.said() != 0 {
			t.Error("a stop said goodbye")
		}
		a = startAgent(t, cfg)
		if err := a.Leave(t.Context()); err != nil || m.said() != 1 {
			t.Errorf("%d goodbyes, %v", m.said(), err)
		}
		a.Stop()
	})
}

func TestSocket(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		cfg := m.join()
		a := startAgent(t, cfg)
		defer a.Stop()
		<-a.Ready()
		ask := func(uid uint32, call func(apiv1.LocalClient, apiv1.AdminClient) error) codes.Code {
			t.Helper()
			conn, err := grpcx.DialUnix(cfg.Network.(*memnet.Host).As(uid), cfg.Socket)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			return status.Code(call(apiv1.NewLocalClient(conn), apiv1.NewAdminClient(conn)))
		}
		add := func(l apiv1.LocalClient, _ apiv1.AdminClient) error {
			_, err := l.AddService(t.Context(), &apiv1.AddServiceRequest{Declaration: &apiv1.Declaration{Name: "web", Port: 3000}})
			return err
		}
		remove := func(l apiv1.LocalClient, _ apiv1.AdminClient) error {
			_, err := l.RemoveService(t.Context(), &apiv1.RemoveServiceRequest{Id: "web"})
			return err
		}
		local := func(l apiv1.LocalClient, _ apiv1.AdminClient) error {
			s, err := l.LocalStatus(t.Context(), &apiv1.LocalStatusRequest{})
			if s.GetNode() != "h1" {
				t.Errorf("local status %v", s)
			}
			return err
		}
		mesh := func(_ apiv1.LocalClient, c apiv1.AdminClient) error {
			s, err := c.Status(t.Context(), &apiv1.StatusRequest{})
			if err == nil && s.GetVersion() != "asked by host/h1" {
				t.Errorf("status %v", s)
			}
			return err
		}
		apply := func(_ apiv1.LocalClient, c apiv1.AdminClient) error {
			_, err := c.Apply(t.Context(), &apiv1.ApplyRequest{})
			return err
		}
		f := func(what string, uid uint32, call func(apiv1.LocalClient, apiv1.AdminClient) error, want codes.Code) {
			t.Helper()
			if got := ask(uid, call); got != want {
				t.Errorf("%s by %d: %v, want %v", what, uid, got, want)
			}
		}
		leave := func(l apiv1.LocalClient, _ apiv1.AdminClient) error {
			_, err := l.Leave(t.Context(), &apiv1.LeaveRequest{})
			return err
		}
		const somebody = 54321
		f("add", somebody, add, codes.PermissionDenied)
		f("remove", somebody, remove, codes.PermissionDenied)
		f("leave", somebody, leave, codes.PermissionDenied)
		f("local status", somebody, local, codes.OK)
		f("status", somebody, mesh, codes.OK)
		f("apply", 0, apply, codes.PermissionDenied)
		f("remove", 0, remove, codes.NotFound)
		f("add", 0, add, codes.OK)
		f("remove", 0, remove, codes.OK)
		m.stop()
		synctest.Wait()
		f("status without servers", 0, mesh, codes.Unavailable)
		f("local status without servers", 0, local, codes.OK)
		m.start()
	})
}

func TestHTTP(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		cfg := m.join()
		a := startAgent(t, cfg)
		<-a.Ready()
		client := &http.Client{Transport: &http.Transport{DialContext: cfg.Network.DialContext, DisableKeepAlives: true}}
		get := func(path string) string {
			t.Helper()
			r, err := client.Get("http://127.0.0.1:8500" + path)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if got := get("/healthz"); got != "ok\n" {
			t.Errorf("health %q", got)
		}
		for _, want := range []string{"meshd_agent_connected 1", "meshd_agent_slice_version", "meshd_build_info"} {
			if got := get("/metrics"); !strings.Contains(got, want) {
				t.Errorf("no %s in metrics", want)
			}
		}
		a.Stop()
	})
}

// What cannot be had at the start leaves nothing behind.
func TestStartFails(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		cfg := m.join()
		taken, err := cfg.Network.Listen(t.Context(), "tcp", cfg.HTTP)
		if err != nil {
			t.Fatal(err)
		}
		a, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "listening for HTTP") {
			t.Errorf("got %v", err)
		}
		taken.Close()
		a = startAgent(t, cfg)
		if b, err := New(cfg); err != nil {
			t.Error(err)
		} else if err := b.Start(t.Context()); err == nil {
			t.Error("a second agent started on the same host")
		}
		a.Stop()
	})
}

func TestNameMustStay(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		cfg := m.join()
		cfg.Name = "h2"
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "joined the mesh as h1") {
			t.Errorf("got %v", err)
		}
	})
}
