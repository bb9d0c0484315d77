package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshd/meshd/internal/mesh"
)

const domain = "corp.example"

// authority is a whole CA with its keys, at the time of its making.
type authority struct {
	*Issuer
	Root    *x509.Certificate
	Key     *ecdsa.PrivateKey
	rootKey *ecdsa.PrivateKey
	pool    *x509.CertPool
}

func newAuthority(t testing.TB, trustDomain string, now time.Time) authority {
	t.Helper()
	rootKey, key := newKey(t), newKey(t)
	root, err := NewRoot(trustDomain, rootKey, now)
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := NewIssuing(root, rootKey, trustDomain, &key.PublicKey, now)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := NewIssuer(key, issuing.Raw, root.Raw)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := Pool(root.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return authority{issuer, root, key, rootKey, pool}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCSR(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	csr, err := NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func parse(t testing.TB, chain [][]byte) (certs []*x509.Certificate) {
	t.Helper()
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
	return certs
}

func TestAuthority(t *testing.T) {
	now := time.Now()
	a := newAuthority(t, domain, now)
	f := func(name string, cert *x509.Certificate, life time.Duration, pathLen int, domains int) {
		t.Helper()
		if !cert.IsCA || cert.MaxPathLen != pathLen || len(cert.PermittedURIDomains) != domains {
			t.Errorf("%s: CA %v, path length %d, domains %v", name, cert.IsCA, cert.MaxPathLen, cert.PermittedURIDomains)
		}
		if got := cert.NotAfter.Sub(now); got > life || got < life-time.Minute {
			t.Errorf("%s: lives for %v", name, got)
		}
		if got := now.Sub(cert.NotBefore); got < backdate || got > backdate+time.Minute {
			t.Errorf("%s: backdated by %v", name, got)
		}
	}
	f("root", a.Root, RootLife, -1, 0)
	f("issuing", a.Issuing, IssuingLife, 0, 1)
	if !a.Issuing.PermittedDNSDomainsCritical {
		t.Error("the name constraint is not critical")
	}
	if _, err := NewRoot("Not A Domain", newKey(t), now); err == nil {
		t.Error("a root for no trust domain was made")
	}
}

func TestIssueLeaf(t *testing.T) {
	now := time.Now()
	a := newAuthority(t, domain, now)
	key := newKey(t)
	id := mesh.ServiceIdentity(domain, "orders")
	chain, err := a.IssueLeaf(newCSR(t, key), id, 24*time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	certs := parse(t, chain)
	leaf := certs[0]
	if got, err := LeafIdentity(leaf); got != id || err != nil {
		t.Errorf("identity %v, %v", got, err)
	}
	if len(certs) != 3 || !certs[1].Equal(a.Issuing) || !certs[2].Equal(a.Root) {
		t.Error("the chain is not leaf, issuing, root")
	}
	if leaf.IsCA || len(leaf.URIs) != 1 || len(leaf.DNSNames) != 0 || len(leaf.Subject.Names) != 0 || leaf.SerialNumber.BitLen() < 128 {
		t.Errorf("leaf: CA %v, URIs %v, DNS %v, subject %v, serial %v", leaf.IsCA, leaf.URIs, leaf.DNSNames, leaf.Subject, leaf.SerialNumber)
	}
	if d := leaf.NotAfter.Sub(leaf.NotBefore); d != 24*time.Hour+backdate {
		t.Errorf("valid for %v", d)
	}
	if _, err := Certificate(chain, key); err != nil {
		t.Error(err)
	}
	if _, err := Certificate(chain, newKey(t)); err == nil {
		t.Error("a certificate with another key was accepted")
	}
	if _, err := Certificate(nil, key); err == nil {
		t.Error("an empty chain was accepted")
	}
}

// A request is an attacker's word: nothing but its key may reach a certificate.
func TestIssueLeafIgnoresWhatIsAskedFor(t *testing.T) {
	now := time.Now()
	a := newAuthority(t, domain, now)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "admin"},
		DNSNames: []string{"admin.corp.example"},
		URIs:     []*url.URL{mesh.ServerIdentity(domain, "s1").URL(), mesh.ServiceIdentity(domain, "billing").URL()},
		ExtraExtensions: []pkix.Extension{
			{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}, // CA:TRUE
		},
	}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	id := mesh.ServiceIdentity(domain, "web")
	chain, err := a.IssueLeaf(csr, id, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, chain)[0]
	if got, err := LeafIdentity(leaf); got != id || err != nil {
		t.Errorf("identity %v, %v", got, err)
	}
	if leaf.IsCA || leaf.Subject.CommonName != "" || len(leaf.DNSNames) > 0 {
		t.Errorf("the request's wishes were granted: CA %v, subject %v, DNS %v", leaf.IsCA, leaf.Subject, leaf.DNSNames)
	}
}

func TestIssueLeafRefuses(t *testing.T) {
	now := time.Now()
	a := newAuthority(t, domain, now)
	good := newCSR(t, newKey(t))
	id := mesh.ServiceIdentity(domain, "web")
	f := func(name string, csr []byte, id mesh.Identity, ttl time.Duration, now time.Time, want string) {
		t.Helper()
		if _, err := a.IssueLeaf(csr, id, ttl, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error about %q", name, err, want)
		}
	}
	damaged := append([]byte{}, good...)
	damaged[len(damaged)-1] ^= 1
	f("damaged signature", damaged, id, time.Hour, now, "not signed by its own key")
	f("garbage", []byte("garbage"), id, time.Hour, now, "reading")
	f("huge", make([]byte, maxCSR+1), id, time.Hour, now, "more than")
	f("RSA", csrWith(t, rsaKey(t)), id, time.Hour, now, "P-256")
	f("P-384", csrWith(t, p384Key(t)), id, time.Hour, now, "P-256")
	f("wildcard", good, mesh.ServiceIdentity(domain, "*"), time.Hour, now, "name")
	f("no life", good, id, 0, now, "not positive")
	f("issuing expired", good, id, time.Hour, now.Add(IssuingLife), "expired")
}

func csrWith(t *testing.T, key any) []byte {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func p384Key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestLeafEndsWithItsIssuer(t *testing.T) {
	start := time.Now()
	a := newAuthority(t, domain, start)
	chain, err := a.IssueLeaf(newCSR(t, newKey(t)), mesh.HostIdentity(domain, "vm1"), 48*time.Hour, start.Add(IssuingLife-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if leaf := parse(t, chain)[0]; !leaf.NotAfter.Equal(a.Issuing.NotAfter) {
		t.Errorf("leaf ends %v, its issuer %v", leaf.NotAfter, a.Issuing.NotAfter)
	}
}

func TestNewIssuerRefusesStrangers(t *testing.T) {
	a, b := newAuthority(t, domain, time.Now()), newAuthority(t, domain, time.Now())
	f := func(name string, root, issuing []byte, key *ecdsa.PrivateKey) {
		t.Helper()
		if _, err := NewIssuer(key, issuing, root); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	f("root of another", b.Root.Raw, a.Issuing.Raw, a.Key)
	f("key of another", a.Root.Raw, a.Issuing.Raw, b.Key)
	f("no root", nil, a.Issuing.Raw, a.Key)
	f("no issuing", a.Root.Raw, nil, a.Key)
}

// OpenSSL is asked for a second opinion on chains and name constraints.
func TestOpenSSLAgrees(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("there is no openssl here")
	}
	now := time.Now()
	a := newAuthority(t, domain, now)
	dir := t.TempDir()
	f := func(name string, id mesh.Identity, want bool) {
		t.Helper()
		chain, err := a.IssueLeaf(newCSR(t, newKey(t)), id, time.Hour, now)
		if err != nil {
			t.Fatal(err)
		}
		for i, file := range []string{"leaf", "issuing", "root"} {
			if err := WriteCertificates(filepath.Join(dir, file), chain[i:i+1]); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-CAfile", "root", "-untrusted", "issuing", "leaf")
		cmd.Dir, cmd.Env = dir, os.Environ()
		if out, err := cmd.CombinedOutput(); (err == nil) != want {
			t.Errorf("%s: openssl says %v: %s", name, err, out)
		}
	}
	f("ours", mesh.ServiceIdentity(domain, "web"), true)
	f("another domain", mesh.ServiceIdentity("other.example", "web"), false)
}
