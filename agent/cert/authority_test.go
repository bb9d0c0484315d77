package cert

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshd/meshd/internal/mesh"
)

func start(t *testing.T, dir string, ca *fakeCA) *Manager {
	t.Helper()
	m := open(t, dir, ca)
	m.Start()
	return m
}

func TestRenewalForANewGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t)
		dir := join(t, ca)
		m := start(t, dir, ca)
		m.SetServices([]string{"orders", "web"})
		synctest.Wait()
		ca.requests()
		if got := m.Generation(); got != 0 {
			t.Errorf("generation %d at first", got)
		}
		ca.set(func() { ca.gen = 3 })
		m.SetGeneration(3)
		time.Sleep(spread)
		synctest.Wait()
		if diff := cmp.Diff([]string{"", "orders", "web"}, ca.requests()); diff != "" || m.Generation() != 3 {
			t.Errorf("generation %d; asked for (-want +got)\n%s", m.Generation(), diff)
		}
		m.SetGeneration(3)
		time.Sleep(time.Hour)
		if again := ca.requests(); len(again) > 0 {
			t.Errorf("asked again for %q", again)
		}
		m.Stop()
		// After a restart it is known who signed what is on disk.
		again := open(t, dir, ca)
		again.SetGeneration(3)
		again.Adopt([]string{"orders"})
		if got := again.Generation(); got != 3 {
			t.Errorf("generation %d after a restart", got)
		}
	})
}

// A server that lags behind signs with the old authority.
func TestAServerThatLagsBehindIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t)
		m := start(t, join(t, ca), ca)
		defer m.Stop()
		m.SetGeneration(1)
		time.Sleep(spread)
		synctest.Wait()
		if asked := len(ca.requests()); m.Generation() != 0 || asked == 0 || asked > 30 {
			t.Errorf("generation %d after %d requests", m.Generation(), asked)
		}
		ca.set(func() { ca.gen = 1 })
		time.Sleep(spread)
		synctest.Wait()
		if m.Generation() != 1 {
			t.Error("it was not asked again")
		}
	})
}

func TestRootsThatGo(t *testing.T) {
	ca, next := newCA(t), newCA(t)
	m := open(t, join(t, ca), ca)
	old, new := ca.issuer.Above()[1], next.issuer.Above()[1]
	if err := m.SetRoots([][]byte{old}); err != nil || m.Roots() != m.CurrentRoots() {
		t.Errorf("with one root: %v", err)
	}
	if err := m.SetRoots([][]byte{new, old}); err != nil || m.Roots() == m.CurrentRoots() || len(m.States()[0].Problem) > 0 {
		t.Errorf("with two roots: %v, %v", err, m.States())
	}
	if err := m.SetRoots([][]byte{new}); err != nil || !strings.Contains(m.States()[0].Problem, "replaced its root") {
		t.Errorf("with the new root alone: %v, %v", err, m.States())
	}
	if err := m.SetRoots(nil); err == nil {
		t.Error("no roots at all were taken")
	}
	if err := m.SetRoots([][]byte{new, []byte("x")}); err == nil {
		t.Error("a damaged root was taken")
	}
}

func TestKeysOpenToOthersAreRefused(t *testing.T) {
	ca := newCA(t)
	dir := join(t, ca)
	host := filepath.Join(dir, "host-h1.pem")
	text, err := os.ReadFile(host)
	if err != nil {
		t.Fatal(err)
	}
	for _, identity := range []mesh.Identity{mesh.HostIdentity("mesh", "h1"), mesh.ServiceIdentity("mesh", "orders")} {
		p := path(dir, identity)
		if err := os.WriteFile(p, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Dir: dir, TrustDomain: "mesh", Host: "h1", Signer: ca}); err == nil || !strings.Contains(err.Error(), "chmod 600 "+p) {
			t.Errorf("%s: %v", identity, err)
		}
		if err := os.Chmod(p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
