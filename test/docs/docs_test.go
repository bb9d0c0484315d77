package docs

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
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

func run(t *testing.T, m *dev.Mesh, line string) {
	t.Helper()
	words := strings.Fields(line)
	if words[0] != "meshd" {
		t.Errorf("%s: only meshd's own commands can be run here", line)
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
