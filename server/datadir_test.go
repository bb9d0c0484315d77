package server

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

func testConfig(dir string) Config {
	return Config{
		Name: "s1", DataDir: dir, Listen: ":7300", Advertise: "10.0.0.1:7300",
		GossipListen: ":7301", GossipAdvertise: "10.0.0.1:7301", Logger: slog.New(slog.DiscardHandler),
	}
}

func mustInit(t *testing.T) dataDir {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "server")
	if err := Init(testConfig(dir), InitOptions{ClusterName: "Prod", TrustDomain: "prod.example"}); err != nil {
		t.Fatal(err)
	}
	return dataDir(dir)
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestInitFillsTheDirectory(t *testing.T) {
	dir := mustInit(t)
	m, err := dir.read("")
	if err != nil {
		t.Fatal(err)
	}
	want := record{ID: m.ID, Name: "s1", ClusterID: m.ClusterID, ClusterName: "Prod", TrustDomain: "prod.example"}
	if diff := cmp.Diff(want, m.record); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if m.init.GetCluster().GetId() != m.ClusterID || m.init.GetServer().GetAddress() != "10.0.0.1:7300" {
		t.Errorf("the mesh would be made by %v", m.init)
	}
	if diff := cmp.Diff(m.authority, m.init.Authority, protocmp.Transform()); diff != "" {
		t.Errorf("authorities differ:\n%s", diff)
	}
	if len(m.gossip) != 1 || m.gossip[0] == (gossip.Key{}) || m.sealing == (pki.SealingKey{}) || m.ID == m.ClusterID {
		t.Error("keys or ids were not made")
	}
	checkModes(t, string(dir))
}

// checkModes sees to it that nobody else can look in.
func checkModes(t *testing.T, dir string) {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		public := strings.HasSuffix(e.Name(), ".crt")
		if mode := info.Mode().Perm(); mode != 0o600 && !public {
			t.Errorf("%s has mode %v", e.Name(), mode)
		}
	}
}

func TestInitMakesUpNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "server")
	if err := Init(testConfig(dir), InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := dataDir(dir).readRecord()
	if err != nil || len(r.TrustDomain) != len("mesh-")+6 || r.ClusterName != r.TrustDomain {
		t.Errorf("the mesh is %+v, %v", r, err)
	}
}

func TestInitRefuses(t *testing.T) {
	f := func(c Config, o InitOptions, want string) {
		t.Helper()
		wantError(t, Init(c, o), want)
	}
	dir := mustInit(t)
	f(testConfig(string(dir)), InitOptions{}, "holds server s1 of mesh Prod: start it")
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f(testConfig(other), InitOptions{}, "is not empty, and no server's either")

	empty := testConfig(filepath.Join(t.TempDir(), "empty"))
	change := func(change func(*Config)) Config {
		c := empty
		change(&c)
		return c
	}
	f(change(func(c *Config) { c.Name = "" }), InitOptions{}, "needs a name")
	f(change(func(c *Config) { c.Name = "S1" }), InitOptions{}, "server name")
	f(change(func(c *Config) { c.DataDir = "" }), InitOptions{}, "no data directory")
	f(change(func(c *Config) { c.Advertise = "10.0.0.1" }), InitOptions{}, "not host:port")
	f(change(func(c *Config) { c.Advertise = "h:0" }), InitOptions{}, "no port")
	f(change(func(c *Config) { c.GossipAdvertise = "host:7301" }), InitOptions{}, "not an IP address and port")
	f(empty, InitOptions{TrustDomain: "a b"}, "trust domain")
	if _, err := os.Stat(empty.DataDir); !os.IsNotExist(err) {
		t.Error("a refused Init left a directory behind")
	}
}

func TestNewRefusesWhatIsNotRight(t *testing.T) {
	f := func(change func(dir dataDir, c *Config), want string) {
		t.Helper()
		dir := mustInit(t)
		c := testConfig(string(dir))
		change(dir, &c)
		_, err := New(c)
		wantError(t, err, want)
	}
	f(func(_ dataDir, c *Config) { c.DataDir = t.TempDir() }, "meshd init")
	f(func(_ dataDir, c *Config) { c.Name = "s2" }, "a server keeps its name")
	for _, file := range []string{keyFile, sealingFile, gossipFile, authorityFile, initFile} {
		f(func(dir dataDir, _ *Config) { os.Chmod(dir.file(file), 0o640) }, "chmod 600 ")
		f(func(dir dataDir, _ *Config) { os.WriteFile(dir.file(file), []byte("x"), 0o600) }, file)
	}
	f(func(dir dataDir, _ *Config) { os.Remove(dir.file(keyFile)) }, keyFile)
	f(func(dir dataDir, _ *Config) { os.WriteFile(dir.file(recordFile), []byte("x"), 0o600) }, recordFile)
	f(func(dir dataDir, _ *Config) {
		entry, _ := command.Encode(&command.RemoveNode{NodeId: "x"})
		os.WriteFile(dir.file(initFile), entry, 0o600)
	}, "RemoveNode")
}

func TestTheMeshIsMadeOnce(t *testing.T) {
	dir := mustInit(t)
	if err := dir.forgetInit(); err != nil {
		t.Fatal(err)
	}
	if m, err := dir.read(""); err != nil || m.init != nil {
		t.Errorf("after the mesh was made: %v, %v", m, err)
	}
}

func TestTheKeeperRenewsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := mustInit(t)
		m, err := dir.read("")
		if err != nil {
			t.Fatal(err)
		}
		k, err := newKeeper(dir, m, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		db := state.New()
		ctx, cancel := contextOf(t)
		done := make(chan struct{})
		go func() { defer close(done); k.run(ctx, db.Read, func() {}) }()
		first := k.TLS().Certificate()
		for range 30 {
			time.Sleep(8 * time.Hour)
			if left := time.Until(k.TLS().Certificate().Leaf.NotAfter); left < 7*time.Hour {
				t.Fatalf("the certificate is valid for another %v only", left)
			}
		}
		now := k.TLS().Certificate()
		if now.Leaf.Equal(first.Leaf) || now.PrivateKey != first.PrivateKey {
			t.Error("the certificate was not renewed, or for another key")
		}
		chain, err := pki.ReadCertificates(dir.file(chainFile))
		if err != nil || string(chain[0]) != string(now.Certificate[0]) {
			t.Errorf("the certificate on disk is not the newest (%v)", err)
		}
		cancel()
		<-done

		// Down for longer than the certificate lives.
		time.Sleep(10 * 24 * time.Hour)
		if m, err = dir.read(""); err != nil {
			t.Fatal(err)
		}
		if k, err = newKeeper(dir, m, slog.New(slog.DiscardHandler)); err != nil || !time.Now().Before(k.TLS().Certificate().Leaf.NotAfter) {
			t.Errorf("after ten days the server has no certificate: %v", err)
		}
		if err := os.Remove(dir.file(authorityFile)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * 24 * time.Hour)
		if m, err = dir.read(""); err != nil {
			t.Fatal(err)
		}
		_, err = newKeeper(dir, m, slog.New(slog.DiscardHandler))
		wantError(t, err, "join again with a new token")
	})
}

func TestTheKeeperFollowsTheAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := mustInit(t)
		if err := os.Remove(dir.file(authorityFile)); err != nil { // as after Join
			t.Fatal(err)
		}
		m, err := dir.read("")
		if err != nil {
			t.Fatal(err)
		}
		k, err := newKeeper(dir, m, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Authority(); err == nil {
			t.Error("there is an authority before the first replication")
		}
		db := state.New()
		ctx, cancel := contextOf(t)
		done := make(chan struct{})
		go func() { defer close(done); k.run(ctx, db.Read, func() {}) }()
		db.Apply(1, m.init)
		synctest.Wait()
		if _, err := k.Authority(); err != nil {
			t.Errorf("after the first replication: %v", err)
		}
		if a, err := dir.readAuthority(); err != nil || a == nil {
			t.Errorf("the authority was not kept: %v, %v", a, err)
		}
		cancel()
		<-done
	})
}
