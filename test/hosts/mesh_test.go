// Package hosts tests meshd on whole systemd hosts, from the binary that users
// run and by the commands that they type.
package hosts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/test/lab"
)

// A mesh is a lab whose hosts have the binary and nothing else of meshd.
type mesh struct {
	*lab.Lab
}

func newMesh(t *testing.T, hosts ...string) *mesh {
	t.Helper()
	m := &mesh{lab.New(t, lab.Options{Hosts: hosts, Units: []string{"meshd-server", "meshd-agent"}})}
	binary := meshd(t)
	for _, h := range m.Hosts() {
		if err := h.CopyFile(binary, "/usr/local/bin/meshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// meshd is the binary under test: MESHD_BINARY, or else built from this tree
// the way `make build` does.
func meshd(t *testing.T) string {
	t.Helper()
	if binary := os.Getenv("MESHD_BINARY"); binary != "" {
		return binary
	}
	binary := filepath.Join(t.TempDir(), "meshd")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "github.com/meshd/meshd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building meshd: %v\n%s", err, out)
	}
	return binary
}

// try runs a shell script on a host.
func (m *mesh) try(ctx context.Context, host, script string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := m.Host(host).Run(ctx, "bash", "-c", script)
	return strings.TrimSpace(out), err
}

// run runs a shell script on a host and insists that it succeeds.
func (m *mesh) run(t *testing.T, host, script string) string {
	t.Helper()
	started := time.Now()
	out, err := m.try(t.Context(), host, script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if took := time.Since(started); took > 2*time.Second {
		t.Logf("%s: %.60s took %s", host, script, millis(took))
	}
	return out
}

func (m *mesh) write(t *testing.T, host, name, content string) {
	t.Helper()
	if err := m.Host(host).WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// application starts a program as a systemd unit of its own.
func (m *mesh) application(t *testing.T, host, unit, command string) {
	t.Helper()
	m.write(t, host, "/etc/systemd/system/"+unit+".service",
		"[Service]\nType=exec\nExecStart="+command+"\nRestart=on-failure\n[Install]\nWantedBy=multi-user.target\n")
	m.run(t, host, "systemctl daemon-reload && systemctl enable --quiet --now "+unit)
}

// nginx serves /srv/NAME on 127.0.0.1:PORT from the unit NAME.
func (m *mesh) nginx(t *testing.T, host, name string, port int) {
	t.Helper()
	m.write(t, host, "/etc/"+name+".conf", fmt.Sprintf(`
daemon off;
pid /run/%[1]s.pid;
error_log stderr;
events {}
http {
  access_log off;
  server { listen 127.0.0.1:%[2]d; root /srv/%[1]s; }
}`, name, port))
	m.application(t, host, name, "/usr/sbin/nginx -c /etc/"+name+".conf")
}

// joinToken takes the token out of the one line that tells how to join.
func joinToken(t *testing.T, output string) string {
	t.Helper()
	tokens := regexp.MustCompile(`mesh1\.[A-Za-z0-9_=-]+`).FindAllString(output, -1)
	if len(tokens) != 1 {
		t.Fatalf("want one join token in %q", output)
	}
	return tokens[0]
}

// read decodes what a command prints with -o json.
func (m *mesh) read(ctx context.Context, host, command string, into proto.Message) error {
	out, err := m.try(ctx, host, command+" -o json")
	if err != nil {
		return err
	}
	// status adds this host's part to the server's reply.
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("%s -o json: %w in %s", command, err, out)
	}
	return nil
}

func (m *mesh) status(ctx context.Context, host string) (*apiv1.StatusReply, error) {
	s := &apiv1.StatusReply{}
	return s, m.read(ctx, host, "meshd status", s)
}

// passing counts the healthy instances of a service, as a host's agent or
// server lists them.
func (m *mesh) passing(ctx context.Context, host, service string) (int, error) {
	list := &apiv1.ListServicesReply{}
	if err := m.read(ctx, host, "meshd service list", list); err != nil {
		return 0, err
	}
	n := 0
	for _, s := range list.Services {
		for _, e := range s.Endpoints {
			if s.Name == service && e.Health == apiv1.Health_HEALTH_PASSING && e.NodeState == apiv1.NodeState_NODE_STATE_ALIVE {
				n++
			}
		}
	}
	return n, nil
}

// waitPassing waits until a service has that many healthy instances.
func (m *mesh) waitPassing(t *testing.T, host, service string, want int) time.Duration {
	t.Helper()
	return eventually(t, func() error {
		got, err := m.passing(t.Context(), host, service)
		if err == nil && got != want {
			err = fmt.Errorf("%s sees %d healthy instances of %s, want %d", host, got, service, want)
		}
		return err
	})
}

// waitOutput waits until a script prints exactly that.
func (m *mesh) waitOutput(t *testing.T, host, script, want string) time.Duration {
	t.Helper()
	return eventually(t, func() error {
		got, err := m.try(t.Context(), host, script)
		if err == nil && got != want {
			err = fmt.Errorf("%s: %s printed %q, want %q", host, script, got, want)
		}
		return err
	})
}

// How long anything may take. It guards against waiting for ever; how long
// things should take is printed, not judged on machines of unknown speed, but
// for the second within which a change must act.
const patience = 45 * time.Second

// eventually repeats check until it passes, and says how long that took.
func eventually(t *testing.T, check func() error) time.Duration {
	t.Helper()
	started := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		took := time.Since(started)
		if err == nil {
			return took
		}
		if took > patience {
			t.Fatalf("after %s: %v", took.Round(time.Second), err)
		}
		<-tick.C
	}
}

// step runs a part of a test on which the following parts depend.
func step(t *testing.T, name string, do func(*testing.T)) {
	t.Helper()
	if !t.Run(name, do) {
		t.FailNow()
	}
}

func millis(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
