package cli

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/server"
)

// A realServer is one server of a mesh of its own, and its folder.
type realServer struct {
	t       *testing.T
	dir     string
	address string
}

func startServer(t *testing.T, name string) *realServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "meshd") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := server.Config{
		Name: "vm1", DataDir: filepath.Join(dir, "server"), Socket: filepath.Join(dir, serverSocket),
		Listen: freeAddress(t), GossipListen: freeAddress(t), HTTP: freeAddress(t),
		Network: netx.System{}, Logger: slog.New(slog.DiscardHandler),
	}
	c.Advertise, c.GossipAdvertise = c.Listen, c.GossipListen
	if err := server.Init(c, server.InitOptions{ClusterName: name, TrustDomain: name + ".example"}); err != nil {
		t.Fatal(err)
	}
	s, err := server.New(c)
	if err == nil {
		err = s.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	select {
	case <-s.Ready():
	case <-time.After(time.Minute):
		t.Fatal("the server did not become ready")
	}
	return &realServer{t, dir, c.Listen}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// run runs a command line and compares what it exits with and says.
func (s *realServer) run(exit int, input string, args string, want ...string) string {
	s.t.Helper()
	var out bytes.Buffer
	line := append([]string{"meshd", "--socket", s.dir}, strings.Fields(args)...)
	if got := Run(s.t.Context(), line, strings.NewReader(input), &out, &out); got != exit {
		s.t.Errorf("%s: exit %d, not %d\n%s", args, got, exit, &out)
	}
	for _, text := range want {
		if !strings.Contains(out.String(), text) {
			s.t.Errorf("%s does not say %q:\n%s", args, text, &out)
		}
	}
	return out.String()
}

func TestSnapshotCommands(t *testing.T) {
	s := startServer(t, "shop")
	t.Chdir(t.TempDir())
	if err := os.WriteFile("web.yaml", []byte("kind: service\nname: web\nprotocol: http\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(0, "", "apply -f web.yaml")
	s.run(0, "", "snapshot save mesh.snapshot", "shop (trust domain shop.example", "1 resource", "1 server", "whole and sound")
	if info, err := os.Stat("mesh.snapshot"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	s.run(0, "", "snapshot inspect mesh.snapshot -o json", `"mesh": "shop"`, `"resource": 1`)
	piped := s.run(0, "", "snapshot save -")
	s.run(0, piped, "snapshot inspect -", "whole and sound")
	s.run(1, piped[:len(piped)-40], "snapshot inspect -", "cut short", "next:")
	s.run(1, "", "snapshot save nowhere/mesh.snapshot", "no such file")
	s.run(2, "", "snapshot save", "takes one file")

	s.run(0, "", "delete service web")
	s.run(1, "no\n", "snapshot restore mesh.snapshot", "1 come back, 0 change, 0 go", "service/web", "not the name of the mesh")
	s.run(1, "", "get service web")
	s.run(0, "shop\n", "snapshot restore mesh.snapshot", "restored at index")
	s.run(0, "", "get service web")
	s.run(0, "", "snapshot restore mesh.snapshot --yes", "0 come back, 0 change, 0 go")

	other := startServer(t, "shop2")
	other.run(1, "", "snapshot restore mesh.snapshot --yes", "of another mesh", "--other-mesh")
	other.run(0, "", "snapshot restore mesh.snapshot --yes --other-mesh", "1 come back", "restored")
	other.run(0, "", "get service web")
}

// What is asked of a server elsewhere must not come from this host's.
func TestSnapshotsElsewhere(t *testing.T) {
	here, there := startServer(t, "here"), startServer(t, "there")
	t.Chdir(t.TempDir())
	there.run(0, "", "access create --role admin --out admin.token")
	there.run(0, "", "access create --role viewer --out viewer.token")
	asked := " --server " + there.address + " --token-file "
	here.run(0, "", "snapshot save mesh.snapshot"+asked+"admin.token", "there (trust domain there.example")
	here.run(0, "", "snapshot restore mesh.snapshot --yes"+asked+"admin.token", "restored at index")
	here.run(1, "", "snapshot save other.snapshot"+asked+"viewer.token", "it takes one of the role admin", "meshd access create --role")
	here.run(1, "", "snapshot save other.snapshot --server "+freeAddress(t)+" --token-file admin.token", "cannot be reached", "name another server")
}
