package agent

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshd/meshd/internal/jointoken"
)

func TestJoin(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		cfg := m.host()
		if _, err := New(cfg); !errors.Is(err, ErrNotJoined) {
			t.Errorf("before joining: %v", err)
		}
		got, err := Join(t.Context(), cfg, m.token(nil))
		if err != nil {
			t.Fatal(err)
		}
		want := &Membership{
			ClusterID: "c1", ClusterName: "test", TrustDomain: "mesh", NodeID: "id-h1", Name: "h1",
			Address: "10.0.0.1", Servers: []string{serverAddress}, Roots: [][]byte{m.issuer.Above()[1]},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		kept, err := Joined(cfg.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, kept); diff != "" {
			t.Errorf("kept (-want +got)\n%s", diff)
		}
		if r := m.joins[0]; r.GetAddress() != "10.0.0.1" || r.GetInboundPort() != 7443 {
			t.Errorf("asked with %v", r)
		}
		filepath.WalkDir(cfg.DataDir, func(path string, d os.DirEntry, _ error) error {
			if info, err := d.Info(); err != nil || !d.IsDir() && info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", path, info.Mode(), err)
			}
			return nil
		})
		if _, err := Join(t.Context(), cfg, m.token(nil)); err == nil || !strings.Contains(err.Error(), "already, as h1: to join another") {
			t.Errorf("joining again: %v", err)
		}
	})
}

// An attempt whose answer was lost is repeated with the same key, so that a
// single-use token works.
func TestJoinRepeated(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		cfg := m.host()
		m.lost = true
		if _, err := Join(t.Context(), cfg, m.token(nil)); err == nil || !strings.Contains(err.Error(), "no leader") {
			t.Errorf("got %v", err)
		}
		if _, err := Joined(cfg.DataDir); !errors.Is(err, ErrNotJoined) {
			t.Errorf("after a failure: %v", err)
		}
		if _, err := Join(t.Context(), cfg, m.token(nil)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(keyOf(t, m.joins[0].GetCsr()), keyOf(t, m.joins[1].GetCsr())) {
			t.Error("the second attempt had another key")
		}
		if _, err := os.Stat(joinKeyPath(cfg.DataDir)); !os.IsNotExist(err) {
			t.Errorf("the key for joining is still there: %v", err)
		}
	})
}

func keyOf(t *testing.T, csr []byte) []byte {
	t.Helper()
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	return r.RawSubjectPublicKeyInfo
}

func TestJoinTriesAllServers(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		token := m.token(func(t *jointoken.Token) { t.Addresses = []string{"10.0.0.1:9", serverAddress} })
		if _, err := Join(t.Context(), m.host(), token); err != nil {
			t.Error(err)
		}
	})
}

func TestJoinRefused(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		cfg := m.host()
		f := func(token, want string) {
			t.Helper()
			_, err := Join(t.Context(), cfg, token)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			if _, err := Joined(cfg.DataDir); !errors.Is(err, ErrNotJoined) {
				t.Errorf("joined all the same: %v", err)
			}
		}
		with := func(change func(*jointoken.Token)) string { return m.token(change) }
		f("nonsense", "no join token")
		f(with(func(t *jointoken.Token) { t.Server = true }), "meshd join --server")
		f(with(func(t *jointoken.Token) { t.Expires = time.Now().Add(-time.Second) }), "expired on")
		f(with(func(t *jointoken.Token) { t.ID = "t2" }), "the mesh refused this host: the token is not known")
		f(with(func(t *jointoken.Token) { t.Addresses = []string{"10.0.0.100:1"} }), "no server of the mesh can be reached")
		f(with(func(t *jointoken.Token) { t.Pin[0] ^= 1 }), "another key than the pinned one")
		f(with(func(t *jointoken.Token) { t.TrustDomain = "other" }), "not of trust domain other")
	})
}

func TestJoinedDamaged(t *testing.T) {
	f := func(content string) {
		t.Helper()
		dir := t.TempDir()
		if err := os.WriteFile(membershipPath(dir), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := Joined(dir); err == nil || !strings.Contains(err.Error(), "is damaged") {
			t.Errorf("%q: %v, %v", content, m, err)
		}
	}
	f("")
	f("{}")
	f(`{"cluster_id":"c","node_id":"n","trust_domain":"mesh","name":"../x"}`)
}
