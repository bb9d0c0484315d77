package pki

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/internal/mesh"
)

func TestVerifyPeer(t *testing.T) {
	now := time.Now()
	a := newAuthority(t, domain, now)
	id := mesh.ServiceIdentity(domain, "web")
	good := func() *x509.Certificate {
		template, err := a.leafTemplate(id, time.Hour, now)
		if err != nil {
			t.Fatal(err)
		}
		return template
	}
	// f signs a certificate that differs from a good one as change says.
	f := func(name string, change func(c *x509.Certificate), want string) {
		t.Helper()
		template := good()
		change(template)
		leaf, err := sign(template, a.Issuing, newKey(t).Public(), a.Key)
		if err != nil {
			if want == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: cannot be parsed: %v, want %q", name, err, want)
			}
			return
		}
		state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf, a.Issuing, a.Root}}
		got, err := VerifyPeer(state, a.pool, domain)
		switch {
		case want == "" && (err != nil || got != id):
			t.Errorf("%s: %v, %v", name, got, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want an error about %q", name, err, want)
		}
	}
	uri := func(s string) func(c *x509.Certificate) {
		return func(c *x509.Certificate) { c.URIs = nil; c.ExtraExtensions = []pkix.Extension{sanOf(t, s)} }
	}
	f("good", func(*x509.Certificate) {}, "")
	f("good, written by hand", uri(id.String()), "")
	f("two URIs", func(c *x509.Certificate) { c.URIs = append(c.URIs, mesh.ServiceIdentity(domain, "billing").URL()) }, "2 names")
	f("a DNS name beside", func(c *x509.Certificate) { c.DNSNames = []string{"web"} }, "2 names")
	f("a DNS name only", func(c *x509.Certificate) { c.URIs = nil; c.DNSNames = []string{"spiffe://corp.example/svc/web"} }, "no SPIFFE ID")
	f("no name", func(c *x509.Certificate) { c.URIs = nil; c.Subject.CommonName = id.String() }, "no SPIFFE ID")
	f("another domain", uri("spiffe://other.example/svc/web"), "not of trust domain")
	f("a subdomain", uri("spiffe://sub.corp.example/svc/web"), "not of trust domain")
	f("CA:TRUE", func(c *x509.Certificate) { c.IsCA = true }, "authority")
	f("may sign", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, "authority")
	f("expired", func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }, "expired")
	f("not yet valid", func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }, "expired or is not yet valid")
	f("NUL", uri("spiffe://corp.example/svc/web\x00.evil"), "invalid control character")
	f("wildcard", uri("spiffe://corp.example/svc/*"), "name")
	f("upper-case scheme", uri("SPIFFE://corp.example/svc/web"), "spiffe://")
	f("upper-case domain", uri("spiffe://CORP.example/svc/web"), "CORP")
	f("empty fragment", uri("spiffe://corp.example/svc/web#"), "name")
	f("escaped", uri("spiffe://corp.example/svc/w%65b"), "name")
	f("port", uri("spiffe://corp.example:443/svc/web"), "trust domain")
	f("user", uri("spiffe://x@corp.example/svc/web"), "trust domain")
	f("unknown kind", uri("spiffe://corp.example/admin/web"), "no known kind")
	f("client only", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }, "not meant for both")
	f("server only", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }, "not meant for both")
	f("any usage", func(c *x509.Certificate) { c.ExtKeyUsage = nil }, "not meant for both")
	f("unknown critical extension", func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	}, "critical extension")
}

// sanOf is a subject alternative name extension with one URI of any bytes.
func sanOf(t testing.TB, uri string) pkix.Extension {
	t.Helper()
	value, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: tagURI, Bytes: []byte(uri)}})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidSubjectAltName, Critical: true, Value: value}
}

func TestVerifyChains(t *testing.T) {
	now := time.Now()
	a, other := newAuthority(t, domain, now), newAuthority(t, domain, now)
	leaf := issue(t, a, mesh.ServerIdentity(domain, "s1"), now)
	f := func(name string, chain []*x509.Certificate, want bool) {
		t.Helper()
		if _, err := VerifyPeer(tls.ConnectionState{PeerCertificates: chain}, a.pool, domain); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	f("whole", leaf, true)
	f("without the root", leaf[:2], true)
	f("without the issuing certificate", leaf[:1], false)
	f("nothing", nil, false)
	f("of another mesh", issue(t, other, mesh.ServerIdentity(domain, "s1"), now), false)
	f("too long", append(leaf, make([]*x509.Certificate, maxChain)...), false)
	f("signed by a leaf", []*x509.Certificate{signedByLeaf(t, a, now), leaf[0], a.Issuing, a.Root}, false)
	f("signed beside the issuing certificate's domain", issueUnchecked(t, a, "other.example", now), false)
}

func issue(t testing.TB, a authority, id mesh.Identity, now time.Time) []*x509.Certificate {
	t.Helper()
	chain, err := a.IssueLeaf(newCSR(t, newKey(t)), id, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, chain)
}

// issueUnchecked shows that the name constraint alone stops an identity.
func issueUnchecked(t *testing.T, a authority, domain string, now time.Time) []*x509.Certificate {
	t.Helper()
	chain := issue(t, a, mesh.ServiceIdentity(domain, "web"), now)
	if err := verifyChain(chain, a.pool); err == nil {
		t.Error("an identity beside the name constraint was verified")
	}
	return chain
}

func signedByLeaf(t *testing.T, a authority, now time.Time) *x509.Certificate {
	t.Helper()
	key := newKey(t)
	chain, err := a.IssueLeaf(newCSR(t, key), mesh.ServiceIdentity(domain, "web"), time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	template, err := a.leafTemplate(mesh.ServiceIdentity(domain, "billing"), time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := sign(template, parse(t, chain)[0], newKey(t).Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// The issuing certificate can make no authority under it.
func TestPathLength(t *testing.T) {
	now := time.Now()
	a := newAuthority(t, domain, now)
	key := newKey(t)
	second, err := NewIssuing(a.Issuing, a.Key, domain, &key.PublicKey, now)
	if err != nil {
		t.Fatal(err)
	}
	sub := authority{Issuer: &Issuer{Issuing: second, Key: key, above: [][]byte{a.Root.Raw}}}
	chain := issue(t, sub, mesh.ServiceIdentity(domain, "web"), now)
	chain = []*x509.Certificate{chain[0], second, a.Issuing, a.Root}
	if _, err := VerifyPeer(tls.ConnectionState{PeerCertificates: chain}, a.pool, domain); err == nil {
		t.Error("a second issuing certificate was accepted")
	}
}

func TestVerifyPinned(t *testing.T) {
	now := time.Now()
	a, other := newAuthority(t, domain, now), newAuthority(t, domain, now)
	server := issue(t, a, mesh.ServerIdentity(domain, "s1"), now)
	f := func(name string, chain []*x509.Certificate, pinOf *x509.Certificate, domain string, want string) {
		t.Helper()
		_, err := VerifyPinned(tls.ConnectionState{PeerCertificates: chain}, Pin(pinOf), domain)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	f("good", server, a.Root, domain, "")
	f("another root", server, other.Root, domain, "another key")
	f("no root sent", server[:2], a.Root, domain, "another key")
	f("nothing sent", nil, a.Root, domain, "no certificate")
	f("a host", issue(t, a, mesh.HostIdentity(domain, "vm1"), now), a.Root, domain, "no server")
	f("another domain", server, a.Root, "other.example", "not of trust domain")
	f("pinned root put behind another chain", append(issue(t, other, mesh.ServerIdentity(domain, "s1"), now)[:2:2], a.Root), a.Root, domain, "unknown authority")
	f("pin of the leaf", server[:1], server[0], domain, "no root")
}

// Both sides verify each other over a real handshake, and what expired inside
// a bubble's clock is refused.
func TestHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		a := newAuthority(t, domain, now)
		config := func(id mesh.Identity, seen *mesh.Identity) *tls.Config {
			key := newKey(t)
			chain, err := a.IssueLeaf(newCSR(t, key), id, time.Hour, now)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := Certificate(chain, key)
			if err != nil {
				t.Fatal(err)
			}
			c := BaseConfig()
			c.Certificates, c.ClientAuth = []tls.Certificate{*cert}, tls.RequireAnyClientCert
			c.VerifyConnection = func(state tls.ConnectionState) (err error) {
				*seen, err = VerifyPeer(state, a.pool, domain)
				return err
			}
			return c
		}
		web, orders := mesh.ServiceIdentity(domain, "web"), mesh.ServiceIdentity(domain, "orders")
		var atServer, atClient mesh.Identity
		server, client := config(orders, &atServer), config(web, &atClient)
		if err := handshake(client, server); err != nil || atServer != web || atClient != orders {
			t.Errorf("server sees %v, client sees %v, %v", atServer, atClient, err)
		}
		time.Sleep(2 * time.Hour)
		if err := handshake(client, server); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("after the certificates' end: %v", err)
		}
	})
}

func handshake(client, server *tls.Config) error {
	c, s := net.Pipe()
	defer c.Close()
	defer s.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Server(s, server).Handshake(); s.Close() }()
	if err := tls.Client(c, client).Handshake(); err != nil {
		return err
	}
	return <-done
}

func FuzzLeafIdentity(f *testing.F) {
	now := time.Now()
	a := newAuthority(f, domain, now)
	f.Add(issue(f, a, mesh.ServiceIdentity(domain, "web"), now)[0].Raw)
	f.Add(a.Issuing.Raw)
	for _, s := range []string{"spiffe://corp.example/svc/a\x00b", "spiffe://corp.example/svc/*", "https://x"} {
		f.Add(sanOf(f, s).Value)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		cert, err := x509.ParseCertificate(b)
		if err != nil {
			// Not a certificate, so let it be the names of one.
			cert = &x509.Certificate{Extensions: []pkix.Extension{{Id: oidSubjectAltName, Value: b}}}
		}
		id, err := LeafIdentity(cert)
		if err != nil {
			return
		}
		if again, err := mesh.ParseIdentity(id.String()); err != nil || again != id {
			t.Errorf("%q: %v, %v", id, again, err)
		}
		if len(cert.URIs) > 0 && (len(cert.URIs) != 1 || *cert.URIs[0] != (url.URL{Scheme: "spiffe", Host: id.TrustDomain, Path: "/" + string(id.Kind) + "/" + id.Name})) {
			t.Errorf("%v was read as %v", cert.URIs, id)
		}
	})
}

func FuzzIssueLeaf(f *testing.F) {
	now := time.Now()
	a := newAuthority(f, domain, now)
	f.Add(newCSR(f, newKey(f)))
	f.Add([]byte{0x30, 0x80})
	id := mesh.ServiceIdentity(domain, "web")
	f.Fuzz(func(t *testing.T, csr []byte) {
		chain, err := a.IssueLeaf(csr, id, time.Hour, now)
		if err != nil {
			return
		}
		certs := parse(t, chain)
		if got, err := VerifyPeer(tls.ConnectionState{PeerCertificates: certs}, a.pool, domain); got != id || err != nil {
			t.Errorf("issued %v, %v", got, err)
		}
	})
}

func TestNoRootsTrustNobody(t *testing.T) {
	now := time.Now()
	a := newAuthority(t, "mesh.example", now)
	chain := issue(t, a, mesh.HostIdentity("mesh.example", "h1"), now)
	if _, err := VerifyPeer(tls.ConnectionState{PeerCertificates: chain}, nil, "mesh.example"); err == nil || !strings.Contains(err.Error(), "no trust anchors") {
		t.Errorf("without roots: %v", err)
	}
}
