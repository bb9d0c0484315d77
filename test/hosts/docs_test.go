package hosts

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/meshd/meshd/test/docs"
)

// TestDocumentation types on hosts what the pages tell the reader to type there,
// page after page.
func TestDocumentation(t *testing.T) {
	m := newMesh(t, "vm1", "vm2", "vm3", "vm7")
	m.write(t, "vm1", "/srv/orders/index.html", "the orders\n")
	m.write(t, "vm1", "/srv/orders/healthz", "ok\n")
	m.nginx(t, "vm1", "orders", 8080)
	m.write(t, "vm2", "/srv/web/index.html", "the web\n")
	m.nginx(t, "vm2", "web", 3000)

	reader := &reader{mesh: m}
	typed := reader.read(t, "../../docs/getting-started.md")
	reader.loseHost(t, "vm7")
	reader.read(t, "../../docs/operating.md")

	// What the README shows is the start of the first steps.
	_, commands, err := docs.Read("../../README.md")
	if err != nil || len(commands) == 0 {
		t.Fatalf("%d commands in the README, error %v", len(commands), err)
	}
	for _, c := range commands {
		if !slices.Contains(typed, c.Host+" "+c.Text) {
			t.Errorf("%s: not among the first steps, so tested by nothing", c)
		}
	}
}

// A reader fills in what a page leaves open by what the last commands printed.
type reader struct {
	*mesh
	token string // the last one that was made
	id    string
	name  string // the mesh's
}

// loseHost has a host join and die, so that there is one that is gone for good.
func (r *reader) loseHost(t *testing.T, host string) {
	t.Helper()
	out := r.run(t, "vm1", "meshd token create")
	r.run(t, host, "meshd join "+tokenText.FindString(out))
	if err := r.Host(host).Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.waitOutput(t, "vm1", "meshd members | grep -c '^"+host+" .* lost'", "1")
	status, err := r.status(t.Context(), "vm1")
	if err != nil {
		t.Fatal(err)
	}
	r.name = status.Cluster.Name
}

var (
	tokenText = regexp.MustCompile(`mesh1\.[A-Za-z0-9_-]+`)
	tokenID   = regexp.MustCompile(`(?m)^[0-9a-f]{16}\b`)
)

func (r *reader) read(t *testing.T, path string) (typed []string) {
	t.Helper()
	blocks, commands, err := docs.Read(path)
	if err != nil || len(commands) == 0 {
		t.Fatalf("%s: %d commands, error %v", path, len(commands), err)
	}
	for _, b := range blocks {
		if b.File != "" {
			r.write(t, "vm1", "/root/"+b.File, b.Text)
		}
	}
	for _, c := range commands {
		typed = append(typed, c.Host+" "+c.Text)
		line := strings.ReplaceAll(c.Text, "mesh1.eyJ...", r.token)
		line = strings.ReplaceAll(line, "revoke ID", "revoke "+r.id)
		if strings.HasPrefix(line, "meshd recover") {
			// It asks for the mesh's name, and vm1, the only server by now, has lost no
			// majority.
			line = "echo '" + r.name + "' | " + strings.Replace(line, "recover", "recover --force", 1)
		}
		out := r.run(t, c.Host, "cd /root && "+line)
		if strings.HasPrefix(line, "dig ") && out == "" {
			t.Errorf("%s: no answer", c)
		}
		if found := tokenText.FindString(out); found != "" {
			r.token = found
		}
		if found := tokenID.FindString(out); found != "" {
			r.id = found
		}
	}
	return typed
}
