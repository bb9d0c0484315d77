// Package mtlstest makes identities for tests.
package mtlstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"sync"
	"time"
)

// An Authority issues certificates and is an mtls.Source of them.
type Authority struct {
	root *x509.Certificate
	key  crypto.Signer

	mu     sync.Mutex
	roots  roots
	issued map[string]*tls.Certificate
}

// New makes an authority with a root of its own.
func New() *Authority {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	key := newKey()
	root := sign(template, template, key.Public(), key)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return &Authority{root: root, key: key, roots: roots{pool, pool}, issued: map[string]*tls.Certificate{}}
}

// Issue gives this authority a new certificate for each SPIFFE ID, in place of
// the one it may have.
func (a *Authority) Issue(ids ...string) {
	for _, id := range ids {
		c := a.Make(func(t *x509.Certificate) { t.URIs = []*url.URL{URI(id)} })
		a.mu.Lock()
		a.issued[id] = c
		a.mu.Unlock()
	}
}

// Make signs a certificate that change has made what a test needs.
func (a *Authority) Make(change func(*x509.Certificate)) *tls.Certificate {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "test"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	change(template)
	key := newKey()
	leaf := sign(template, a.root, key.Public(), a.key)
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// Certificate is what was issued for a SPIFFE ID, or nil.
func (a *Authority) Certificate(id string) *tls.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.issued[id]
}

// Set has Certificate return c.
func (a *Authority) Set(id string, c *tls.Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.issued[id] = c
}

// Roots trust this authority, unless SetRoots says otherwise.
func (a *Authority) Roots() *x509.CertPool { return a.trusted().all }

// CurrentRoots are what stays of Roots.
func (a *Authority) CurrentRoots() *x509.CertPool { return a.trusted().current }

// SetRoots has those who use this source trust other authorities, of which the
// first stays.
func (a *Authority) SetRoots(authorities ...*Authority) {
	next := roots{all: x509.NewCertPool(), current: x509.NewCertPool()}
	next.current.AddCert(authorities[0].root)
	for _, other := range authorities {
		next.all.AddCert(other.root)
	}
	if len(authorities) == 1 {
		next.current = next.all
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roots = next
}

type roots struct{ all, current *x509.CertPool }

func (a *Authority) trusted() roots {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.roots
}

// URI parses a SPIFFE ID.
func URI(id string) *url.URL {
	u, err := url.Parse(id)
	must(err)
	return u
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return key
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	template.SerialNumber = big.NewInt(1)
	if template.NotAfter.IsZero() {
		template.NotBefore = time.Now().Add(-time.Minute)
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	must(err)
	c, err := x509.ParseCertificate(der)
	must(err)
	return c
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
