package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/cli"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/dev"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/telemetry"
	"github.com/meshd/meshd/server/httpapi"
)

const root = "../.."

// each runs f for every page.
func each(t *testing.T, f func(t *testing.T, blocks []Block, commands []Command)) {
	pages, err := Pages(root)
	if err != nil || len(pages) < 4 {
		t.Fatalf("%d pages, error %v", len(pages), err)
	}
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			blocks, commands, err := Read(page)
			if err != nil {
				t.Fatal(err)
			}
			f(t, blocks, commands)
		})
	}
}

func TestEveryBlockIsOfAKindThatIsTested(t *testing.T) {
	each(t, func(t *testing.T, blocks []Block, _ []Command) {
		for _, b := range blocks {
			if !slices.Contains([]string{"yaml resources", "yaml declaration", "console"}, b.Kind) {
				t.Errorf("%s:%d: a block of kind %q is tested by nothing", b.Page, b.Line, b.Kind)
			}
		}
	})
}

// TestResources takes the resources of a page for one mesh.
func TestResources(t *testing.T) {
	each(t, func(t *testing.T, blocks []Block, _ []Command) {
		var all []*apiv1.Resource
		for _, b := range blocks {
			if b.Kind != "yaml resources" {
				continue
			}
			docs, err := config.DecodeResources(b.Page, []byte(b.Text))
			if err != nil {
				t.Errorf("block at line %d: %v", b.Line, err)
				continue
			}
			var changed []*apiv1.Resource
			for _, d := range docs {
				changed = append(changed, d.Resource)
			}
			all = append(all, changed...)
			if err := config.Report(docs, mesh.ValidateSet(changed, all)); err != nil {
				t.Errorf("block at line %d: %v", b.Line, err)
			}
		}
	})
}

func TestDeclarations(t *testing.T) {
	each(t, func(t *testing.T, blocks []Block, _ []Command) {
		for _, b := range blocks {
			if b.Kind != "yaml declaration" {
				continue
			}
			if _, err := config.DecodeDeclaration(b.Page, []byte(b.Text)); err != nil {
				t.Errorf("block at line %d: %v", b.Line, err)
			}
		}
	})
}

// TestConsole runs console blocks, page by page, on a mesh of their own, in a
// folder that holds the page's files.
func TestConsole(t *testing.T) {
	each(t, func(t *testing.T, blocks []Block, _ []Command) {
		if !slices.ContainsFunc(blocks, func(b Block) bool { return b.Kind == "console" }) {
			return
		}
		m := startMesh(t)
		t.Chdir(t.TempDir())
		for _, b := range blocks {
			if b.File != "" {
				if err := os.WriteFile(b.File, []byte(b.Text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, b := range blocks {
			if b.Kind != "console" {
				continue
			}
			for _, line := range b.Typed() {
				run(t, m, line)
			}
		}
	})
}

func startMesh(t *testing.T) *dev.Mesh {
	t.Helper()
	// A unix socket's path must be short, which test folders need not be.
	dir, err := os.MkdirTemp("", "docs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o := dev.Options{Dir: dir, Agents: 1, Prefix: "dev", HTTP: freeAddress(t), DNS: freeAddress(t)}
	var log bytes.Buffer
	o.Logger = telemetry.NewLogger(&log, slog.LevelWarn, telemetry.Text)
	m, err := dev.Start(ctx, o)
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	t.Cleanup(m.Stop)
	return m
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// run types one line: meshd's own commands are called, others go to a shell.
func run(t *testing.T, m *dev.Mesh, line string) {
	t.Helper()
	line = strings.ReplaceAll(line, "vm1:7300", m.Address())
	words := split(line)
	if words[0] != "meshd" {
		runShell(t, m, line)
		return
	}
	socket := m.Socket()
	if words[1] == "service" && (words[2] == "add" || words[2] == "remove") {
		socket = m.Hosts[0].Socket
	}
	var out, errs bytes.Buffer
	if code := cli.Run(t.Context(), append(words, "--socket", socket), strings.NewReader(""), &out, &errs); code != 0 {
		t.Errorf("%s\nexit status %d\n%s%s", line, code, &out, &errs)
	}
}

// split parts a line at spaces, but for those in single quotes.
func split(line string) (words []string) {
	quoted, word := false, ""
	for _, c := range line + " " {
		switch {
		case c == '\'':
			quoted = !quoted
		case c == ' ' && !quoted:
			if word != "" {
				words = append(words, word)
			}
			word = ""
		default:
			word += string(c)
		}
	}
	return words
}

// runShell has curl ask the mesh.
func runShell(t *testing.T, m *dev.Mesh, line string) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil && strings.HasPrefix(line, "curl ") {
		t.Logf("there is no curl to type: %s", line)
		return
	}
	line = strings.NewReplacer("/run/meshd/server.sock", m.Socket(), "sha256//PIN", "sha256//"+pin(t, m)).Replace(line)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s\n%v\n%s", line, err, out)
	}
}

// pin is what the page says where to find.
func pin(t *testing.T, m *dev.Mesh) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := cli.Run(t.Context(), []string{"meshd", "--socket", m.Socket(), "members", "-o", "json"}, strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatalf("%s", &errs)
	}
	var members struct{ Servers []struct{ Pin string } }
	if err := json.Unmarshal(out.Bytes(), &members); err != nil || len(members.Servers) != 1 || members.Servers[0].Pin == "" {
		t.Fatalf("no pin in %s, %v", &out, err)
	}
	return members.Servers[0].Pin
}

// TestThePageOfTheAPIHasAllOfIt holds the table of endpoints to the one that is
// served.
func TestThePageOfTheAPIHasAllOfIt(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z]+ /v1/[^`]*)` \\|").FindAllSubmatch(page, -1) {
		told[string(row[1])] = true
	}
	served := httpapi.Endpoints()
	for endpoint := range served {
		if !told[endpoint] {
			t.Errorf("%s is not in docs/api.md", endpoint)
		}
	}
	for endpoint := range told {
		if served[endpoint] == "" {
			t.Errorf("docs/api.md tells of %s, which is not there", endpoint)
		}
	}
}

// TestCommandsOnHostsExist keeps the commands that need real hosts within what
// the command line knows; those of the first steps are run on hosts as well.
func TestCommandsOnHostsExist(t *testing.T) {
	each(t, func(t *testing.T, _ []Block, commands []Command) {
		for _, c := range commands {
			words := strings.Fields(c.Text)
			if words[0] != "meshd" {
				continue
			}
			var out, errs bytes.Buffer
			if code := cli.Run(t.Context(), append(words, "--help"), strings.NewReader(""), &out, &errs); code != 0 {
				t.Errorf("%s\nexit status %d\n%s%s", c, code, &out, &errs)
			}
		}
	})
}
