package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/host"
	"github.com/meshd/meshd/internal/jointoken"
)

// joinContext runs `meshd join ARGS` as far as the command's own action.
func joinContext(t *testing.T, stdin string, args []string, action func(*cli.Context)) {
	t.Helper()
	join := joinCommand()
	join.Action = func(c *cli.Context) error { action(c); return nil }
	app := &cli.App{Name: "meshd", Commands: []*cli.Command{join}, Reader: strings.NewReader(stdin), Writer: &bytes.Buffer{}}
	if err := app.RunContext(t.Context(), append([]string{"meshd", "join"}, args...)); err != nil {
		t.Fatal(err)
	}
}

func TestTokenText(t *testing.T) {
	f := func(args []string, stdin, env, want string) {
		t.Helper()
		t.Setenv(tokenEnv, env)
		joinContext(t, stdin, args, func(c *cli.Context) {
			got, err := tokenText(c)
			if got != want || (err == nil) != (want != "") {
				t.Errorf("%v: got %q, %v, want %q", args, got, err, want)
			}
		})
	}
	f([]string{"mesh1.arg"}, "mesh1.in\n", "mesh1.env", "mesh1.arg")
	f([]string{"-"}, " mesh1.in \nmore\n", "mesh1.env", "mesh1.in")
	f([]string{"-"}, "mesh1.in", "", "mesh1.in")
	f(nil, "mesh1.in\n", "mesh1.env\n", "mesh1.env")
	f(nil, "mesh1.in\n", "", "")
	f([]string{"-"}, "", "", "")
	f([]string{"mesh1.a", "mesh1.b"}, "", "", "")
}

func TestCheckToken(t *testing.T) {
	token := func(server bool, life time.Duration) string {
		return (&jointoken.Token{Addresses: []string{"10.0.0.1:7300"}, ID: "3f9a", TrustDomain: "shop.mesh", Server: server, Expires: time.Now().Add(life)}).Encode()
	}
	f := func(text string, args []string, want string) {
		t.Helper()
		joinContext(t, "", args, func(c *cli.Context) {
			_, err := checkToken(c, text)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
	f(token(false, time.Hour), nil, "")
	f(token(true, time.Hour), []string{"--server"}, "")
	f(token(true, time.Hour), nil, "lets a host join as a server")
	f(token(false, time.Hour), []string{"--server"}, "does not let a host join as a server")
	f(token(false, -time.Second), nil, "has expired")
	f("mesh1.broken", nil, "cannot be used")
}

func newTestSetup(t *testing.T, args ...string) (s *setup) {
	joinContext(t, "", args, func(c *cli.Context) {
		s = &setup{c: c, ctx: c.Context, host: &host.Host{}, server: config.DefaultServer(), agent: config.DefaultAgent()}
	})
	return s
}

func TestIdentify(t *testing.T) {
	s := newTestSetup(t, "--name", "vm1", "--advertise", "10.0.0.1")
	if err := s.identify(); err != nil {
		t.Fatal(err)
	}
	if s.agent.Name != "vm1" || s.server.Name != "vm1" || s.agent.Advertise != "10.0.0.1" ||
		s.server.Advertise != "10.0.0.1:7300" || s.server.GossipAdvertise != "10.0.0.1:7301" {
		t.Errorf("server %+v, agent %+v", s.server, s.agent)
	}
}

func TestIdentifyKeepsWhatFilesSay(t *testing.T) {
	s := newTestSetup(t)
	s.agent.Name, s.agent.Advertise, s.server.Advertise = "db1", "10.0.0.7", "db1.example.com:7300"
	if err := s.identify(); err != nil {
		t.Fatal(err)
	}
	if s.name != "db1" || s.server.Name != "db1" || s.server.Advertise != "db1.example.com:7300" || s.server.GossipAdvertise != "10.0.0.7:7301" {
		t.Errorf("name %s, server %+v", s.name, s.server)
	}
}

func TestIdentifyRefusesContradictions(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		s := newTestSetup(t, args...)
		s.agent.Name, s.agent.Advertise = "db1", "10.0.0.7"
		err := s.identify()
		var usage *usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v", args, err)
		}
	}
	f("--name vm1 contradicts", "--name", "vm1")
	f("--advertise 10.0.0.1 contradicts", "--advertise", "10.0.0.1")
	f("no IP address", "--advertise", "db1.example.com")
	f("at which other hosts reach", "--advertise", "127.0.0.1")
	f(`name "VM1"`, "--name", "VM1")
}

func TestRollBack(t *testing.T) {
	var undone []string
	s := newTestSetup(t)
	cause := &host.Error{Doing: "start meshd-server.service", Err: errors.New("port taken"), Fix: "look at its log"}
	if err := s.rollBack(cause); err != error(cause) {
		t.Errorf("nothing was done, and yet %v", err)
	}
	for _, step := range []string{"state", "config", "unit"} {
		s.undo = append(s.undo, func(context.Context) { undone = append(undone, step) })
	}
	var f *failure
	err := s.rollBack(cause)
	if !errors.As(err, &f) || f.next != "look at its log" || !strings.Contains(f.effect, "gone again") {
		t.Errorf("got %+v", err)
	}
	if got := strings.Join(undone, " "); got != "unit config state" {
		t.Errorf("undone: %s", got)
	}
}

func TestWriteConfigLeavesAFileAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	const mine = "# mine\nname: vm1\n"
	if err := os.WriteFile(path, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newTestSetup(t)
	if err := s.writeConfig(path, []byte("name: vm1\n")); err != nil || len(s.undo) != 0 {
		t.Errorf("error %v, %d steps to undo", err, len(s.undo))
	}
	if got, _ := os.ReadFile(path); string(got) != mine {
		t.Errorf("the file was changed: %s", got)
	}
}

func TestAwait(t *testing.T) {
	f := func(timeout time.Duration, readyAfter int, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := newTestSetup(t)
			ctx, cancel := context.WithTimeout(s.ctx, timeout)
			defer cancel()
			s.ctx = ctx
			tries := 0
			err := s.await("the server", host.ServerUnit, func(context.Context) error {
				if tries++; tries > readyAfter {
					return nil
				}
				return errors.New("no leader")
			})
			if text(err) != want {
				t.Errorf("after %v and %d tries: got %v, want %q", timeout, tries, err, want)
			}
		})
	}
	f(time.Hour, 3, "")
	f(time.Hour, 1e6, "the server runs, but is not ready after 1m0s: no leader")
	f(time.Second, 1e6, "interrupted while waiting for the server: no leader")
}
