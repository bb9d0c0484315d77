package cert

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/pki"
)

const (
	hostID = "spiffe://mesh/host/h1"
	webID  = "spiffe://mesh/svc/web"
	dbID   = "spiffe://mesh/svc/db"
)

// A fakeCA signs what it is asked to, unless it is told otherwise.
type fakeCA struct {
	mu      sync.Mutex
	issuer  *pki.Issuer
	ttl     time.Duration
	ago     time.Duration     // how far its clock is behind
	err     error             // of every call
	refuse  map[string]string // by service
	wrong   bool              // signs for another identity
	gen     uint64            // generation of the authority
	asked   []string          // services, in order
	hostKey []string          // public keys of the host's requests
}

func newCA(t *testing.T) *fakeCA {
	t.Helper()
	now := time.Now().Add(-100 * time.Hour)
	rootKey, err1 := pki.NewKey()
	key, err2 := pki.NewKey()
	root, err3 := pki.NewRoot("mesh", rootKey, now)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	issuing, err := pki.NewIssuing(root, rootKey, "mesh", &key.PublicKey, now)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := pki.NewIssuer(key, issuing.Raw, root.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeCA{issuer: issuer, ttl: 24 * time.Hour, refuse: map[string]string{}}
}

func (ca *fakeCA) Sign(_ context.Context, r *apiv1.SignRequest) (*apiv1.SignReply, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if ca.err != nil {
		return nil, ca.err
	}
	reply := &apiv1.SignReply{AuthorityGeneration: ca.gen}
	for _, c := range r.GetRequests() {
		reply.Certificates = append(reply.Certificates, ca.answer(c))
	}
	return reply, nil
}

func (ca *fakeCA) answer(c *apiv1.CertificateRequest) *apiv1.Certificate {
	ca.asked = append(ca.asked, c.GetService())
	if reason := ca.refuse[c.GetService()]; reason != "" {
		return &apiv1.Certificate{Error: reason}
	}
	identity := mesh.ServiceIdentity("mesh", c.GetService())
	if c.GetService() == "" {
		identity = mesh.HostIdentity("mesh", "h1")
	}
	if ca.wrong {
		identity.Name = "other"
	}
	chain, err := ca.issuer.IssueLeaf(c.GetCsr(), identity, ca.ttl, time.Now().Add(-ca.ago))
	if err != nil {
		return &apiv1.Certificate{Error: err.Error()}
	}
	if c.GetService() == "" {
		leaf, _ := x509.ParseCertificate(chain[0])
		ca.hostKey = append(ca.hostKey, string(leaf.RawSubjectPublicKeyInfo))
	}
	return &apiv1.Certificate{Chain: chain}
}

func (ca *fakeCA) set(f func()) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	f()
}

// requests gives the services that were asked for since the last call.
func (ca *fakeCA) requests() []string {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	asked := slices.Sorted(slices.Values(ca.asked))
	ca.asked = nil
	return asked
}

// join gives a host its first certificate.
func join(t *testing.T, ca *fakeCA) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "certs")
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := Save(dir, mesh.HostIdentity("mesh", "h1"), key, ca.answer(&apiv1.CertificateRequest{Csr: csr}).GetChain(), 0); err != nil {
		t.Fatal(err)
	}
	ca.requests()
	return dir
}

func open(t *testing.T, dir string, ca *fakeCA) *Manager {
	t.Helper()
	m, err := Open(Config{Dir: dir, TrustDomain: "mesh", Host: "h1", Signer: ca, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetRoots([][]byte{ca.issuer.Above()[1]}); err != nil {
		t.Fatal(err)
	}
	return m
}

// bubble runs a test of a manager and its authority in fake time.
func bubble(t *testing.T, test func(t *testing.T, m *Manager, ca *fakeCA)) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t)
		m := open(t, join(t, ca), ca)
		m.Start()
		test(t, m, ca)
		m.Stop()
	})
}

// valid checks that the manager gives certificates of these identities, good
// now, and no others.
func valid(t *testing.T, m *Manager, ids ...string) {
	t.Helper()
	for _, id := range []string{hostID, webID, dbID} {
		c := m.Certificate(id)
		switch want := slices.Contains(ids, id); {
		case want && (c == nil || time.Now().After(c.Leaf.NotAfter) || c.Leaf.URIs[0].String() != id):
			t.Errorf("no valid certificate of %s", id)
		case !want && c != nil:
			t.Errorf("there is a certificate of %s", id)
		}
	}
}

func TestServices(t *testing.T) {
	bubble(t, func(t *testing.T, m *Manager, ca *fakeCA) {
		valid(t, m, hostID)
		m.SetServices([]string{"web", "db"})
		synctest.Wait()
		valid(t, m, hostID, webID, dbID)
		if diff := cmp.Diff([]string{"db", "web"}, ca.requests()); diff != "" {
			t.Errorf("asked for (-want +got)\n%s", diff)
		}
		if n := len(m.Certificate(webID).Certificate); n != 2 {
			t.Errorf("%d certificates are shown, want the leaf and the issuing one without the root", n)
		}
		m.SetServices([]string{"web"})
		synctest.Wait()
		valid(t, m, hostID, webID)
		if _, err := os.Stat(filepath.Join(m.cfg.Dir, "svc-db.pem")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the key of a service that is gone: %v", err)
		}
		if len(ca.requests()) != 0 {
			t.Error("asked again for what it has")
		}
		<-m.Changes()
		m.SetServices([]string{"web"})
		select {
		case <-m.Changes():
			t.Error("a change was told where there was none")
		default:
		}
	})
}

// A week goes by; certificates are renewed at about two thirds of their lives.
func TestRenewal(t *testing.T) {
	bubble(t, func(t *testing.T, m *Manager, ca *fakeCA) {
		m.SetServices([]string{"web"})
		synctest.Wait()
		first := m.Certificate(webID)
		for range 7 * 24 {
			time.Sleep(time.Hour)
			valid(t, m, hostID, webID)
		}
		if n := len(ca.requests()); n < 20 || n > 26 {
			t.Errorf("%d certificates in a week, want about 21", n)
		}
		if now := m.Certificate(webID); first.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(now.Leaf.PublicKey) {
			t.Error("a service kept its key")
		}
		if len(slices.Compact(slices.Clone(ca.hostKey))) != 1 {
			t.Error("the host changed its key, by which servers know it")
		}
	})
}

// What an authority signs in its last minutes is due for renewal at once, which
// must not make the host ask without a pause.
func TestRenewalUnderADyingAuthority(t *testing.T) {
	bubble(t, func(t *testing.T, m *Manager, ca *fakeCA) {
		ca.set(func() { ca.ttl = time.Minute }) // of six, with those that it is backdated by
		m.SetServices([]string{"web"})
		time.Sleep(5*maxDelay + time.Second)
		if n := len(ca.requests()); n < 5 || n > 6 {
			t.Errorf("asked %d times in five minutes", n)
		}
	})
}

// Servers are away: what is there is used until it ends, and renewed as soon as
// they are back.
func TestRenewalThroughOutage(t *testing.T) {
	bubble(t, func(t *testing.T, m *Manager, ca *fakeCA) {
		m.SetServices([]string{"web"})
		synctest.Wait()
		ca.set(func() { ca.err = errors.New("nobody there") })
		time.Sleep(23 * time.Hour)
		valid(t, m, hostID, webID)
		if s := m.States(); s[0].Problem == "" || s[0].NotAfter.IsZero() {
			t.Errorf("state %+v", s[0])
		}
		ca.set(func() { ca.err = nil })
		time.Sleep(maxDelay)
		synctest.Wait()
		if left := time.Until(m.Certificate(webID).Leaf.NotAfter); left < 23*time.Hour {
			t.Errorf("a certificate with %v left", left)
		}
		if s := m.States(); s[0].Problem != "" {
			t.Errorf("state %+v", s[0])
		}
	})
}

func TestRefusal(t *testing.T) {
	bubble(t, func(t *testing.T, m *Manager, ca *fakeCA) {
		ca.set(func() { ca.refuse["db"] = "not registered" })
		m.SetServices([]string{"web", "db"})
		synctest.Wait()
		valid(t, m, hostID, webID)
		time.Sleep(time.Hour)
		if n := len(ca.requests()); n < 60 || n > 150 {
			t.Errorf("asked %d times in an hour", n)
		}
		ca.set(func() { delete(ca.refuse, "db") })
		time.Sleep(maxDelay)
		synctest.Wait()
		valid(t, m, hostID, webID, dbID)
	})
}

func TestWrongAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, m *Manager, ca *fakeCA) {
		f := func(name string, change, back func(), problem string) {
			t.Helper()
			ca.set(change)
			m.SetServices([]string{"web"})
			synctest.Wait()
			valid(t, m, hostID)
			if s := m.States(); !strings.Contains(s[1].Problem, problem) {
				t.Errorf("%s: problem %q", name, s[1].Problem)
			}
			ca.set(back)
			m.SetServices(nil)
		}
		f("another identity", func() { ca.wrong = true }, func() { ca.wrong = false }, "for spiffe://mesh/svc/other and not for")
		f("expired", func() { ca.ago = 48 * time.Hour }, func() { ca.ago = 0 }, "set the clock")
		stranger, own := newCA(t).issuer, ca.issuer
		f("another authority", func() { ca.issuer = stranger }, func() { ca.issuer = own }, "not one of this mesh")
	})
}

func TestReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t)
		dir := join(t, ca)
		m := open(t, dir, ca)
		m.SetServices([]string{"web"})
		m.Start()
		synctest.Wait()
		m.Stop()
		valid(t, m, hostID, webID)
		ca.requests()

		ca.err = errors.New("nobody there")
		m = open(t, dir, ca)
		m.Adopt([]string{"web", "db"})
		valid(t, m, hostID, webID)
		if len(m.States()) != 2 {
			t.Errorf("states %v", m.States())
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	ca := newCA(t)
	f := func(name string, damage func(path string) error, want string) {
		t.Helper()
		dir := join(t, ca)
		if err := damage(filepath.Join(dir, "host-h1.pem")); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Config{Dir: dir, TrustDomain: "mesh", Host: "h1", Signer: ca, Logger: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	f("missing", os.Remove, "no such file")
	f("readable by others", func(p string) error { return os.Chmod(p, 0o640) }, "chmod 600 ")
	f("empty", func(p string) error { return os.Truncate(p, 0) }, "no private key")
	f("of another host", func(p string) error { return os.Rename(p, filepath.Join(filepath.Dir(p), "x.pem")) }, "no such file")
}

func TestSetRoots(t *testing.T) {
	ca := newCA(t)
	m := open(t, join(t, ca), ca)
	before := m.Roots()
	if m.SetRoots(nil) == nil || m.SetRoots([][]byte{{1}}) == nil {
		t.Error("roots that are none were taken")
	}
	if m.Roots() != before {
		t.Error("the roots changed")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		key, chain, err := decode(b)
		if err != nil {
			return
		}
		if _, err := assemble(mesh.HostIdentity("mesh", "h1"), key, chain); err == nil {
			t.Error("a certificate out of nothing")
		}
	})
}
