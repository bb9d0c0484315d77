package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/meshd/meshd/internal/mesh"
)

// outside is an authority as a company would make it: a root and an intermediate
// certificate under it, each changed as a test needs.
type outside struct {
	root, intermediate *x509.Certificate
	rootKey, key       crypto.Signer
}

func newOutside(t testing.TB, change func(root, intermediate *x509.Certificate)) outside {
	return outsideWith(t, newKey(t), newKey(t), change)
}

func outsideWith(t testing.TB, rootKey, key crypto.Signer, change func(root, intermediate *x509.Certificate)) outside {
	t.Helper()
	template := func(name string, serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(5 * 365 * 24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign,
		}
	}
	root, intermediate := template("Corp Root", 1), template("Corp Mesh", 2)
	if change != nil {
		change(root, intermediate)
	}
	o := outside{rootKey: rootKey, key: key}
	var err error
	if o.root, err = sign(root, root, rootKey.Public(), rootKey); err != nil {
		t.Fatal(err)
	}
	if o.intermediate, err = sign(intermediate, o.root, key.Public(), rootKey); err != nil {
		t.Fatal(err)
	}
	return o
}

func certsPEM(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		pem.Encode(&b, &pem.Block{Type: pemCertificate, Bytes: c.Raw})
	}
	return b.Bytes()
}

func keyPEM(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := MarshalKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der})
}

func TestBundle(t *testing.T) {
	now := time.Now()
	f := func(name string, certs, key []byte, want string) {
		t.Helper()
		b, err := ParseBundle(certs, key)
		if err == nil {
			err = b.Check(domain, now)
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	both := func(name string, o outside, want string) {
		t.Helper()
		f(name, certsPEM(o.intermediate, o.root), keyPEM(t, o.key), want)
	}
	o, other := newOutside(t, nil), newOutside(t, nil)
	f("root", certsPEM(o.root), keyPEM(t, o.rootKey), "")
	both("intermediate", o, "")
	f("key of another", certsPEM(o.root), keyPEM(t, other.rootKey), "not that of the first certificate")
	f("without its root", certsPEM(o.intermediate), keyPEM(t, o.key), "add the certificates above it")
	f("in the wrong order", certsPEM(o.root, o.intermediate), keyPEM(t, o.rootKey), "put each before the one that signed it")
	f("root of another", certsPEM(o.intermediate, other.root), keyPEM(t, o.key), "not signed by the certificate that follows")
	f("too many", certsPEM(o.root, o.root, o.root, o.root, o.root), keyPEM(t, o.rootKey), "4 are the most")
	f("no certificate", nil, keyPEM(t, o.key), "something else than certificates")
	f("no key", certsPEM(o.root), nil, "no private key")
	f("a certificate as the key", certsPEM(o.root), certsPEM(o.root), "no private key")

	both("no CA", newOutside(t, func(_, i *x509.Certificate) { i.IsCA, i.KeyUsage = false, 0 }), "CA:TRUE")
	both("may not sign", newOutside(t, func(_, i *x509.Certificate) { i.KeyUsage = x509.KeyUsageDigitalSignature }), "keyCertSign")
	zero := func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }
	both("path length 0 signs itself", newOutside(t, func(_, i *x509.Certificate) { zero(i) }), "")
	both("path length 1 above", newOutside(t, func(r, _ *x509.Certificate) { r.MaxPathLen = 1 }), "there are 2 authorities below it")
	both("path length 1 above 0", newOutside(t, func(r, i *x509.Certificate) { r.MaxPathLen = 1; zero(i) }), "")
	short := newOutside(t, func(r, _ *x509.Certificate) { zero(r) })
	f("a root that can have nothing below", certsPEM(short.root), keyPEM(t, short.rootKey), "there are 1 authorities below it")
	both("ends soon", newOutside(t, func(_, i *x509.Certificate) { i.NotAfter = now.Add(29 * 24 * time.Hour) }), "at least 30 more days")
	both("not yet", newOutside(t, func(_, i *x509.Certificate) { i.NotBefore = now.Add(time.Hour) }), "not valid before")

	permit := func(domains ...string) func(_, i *x509.Certificate) {
		return func(_, i *x509.Certificate) { i.PermittedURIDomains, i.PermittedDNSDomainsCritical = domains, true }
	}
	both("permits the domain", newOutside(t, permit(domain)), "")
	both("permits another domain", newOutside(t, permit("other.example")), "would not be accepted")
	both("excludes the domain", newOutside(t, func(_, i *x509.Certificate) { i.ExcludedURIDomains = []string{domain} }), "would not be accepted")
	both("for servers only", newOutside(t, func(_, i *x509.Certificate) { i.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "not meant for both")
}

func TestBundleKeys(t *testing.T) {
	rsaOf := func(bits int) crypto.Signer {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	curve := func(c elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	large, small := rsaOf(3072), rsaOf(2048)
	zero := func(_, i *x509.Certificate) { i.MaxPathLen, i.MaxPathLenZero = 0, true }
	f := func(name string, o outside, key []byte, want string) {
		t.Helper()
		b, err := ParseBundle(certsPEM(o.intermediate, o.root), key)
		if err == nil {
			err = b.Check(domain, time.Now())
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	ec := newKey(t)
	p384 := curve(elliptic.P384())
	f("P-384", outsideWith(t, p384, p384, nil), keyPEM(t, p384), "")
	f("P-384 that signs leaves", outsideWith(t, p384, p384, zero), keyPEM(t, p384), "")
	f("RSA 3072", outsideWith(t, large, large, nil), keyPEM(t, large), "")
	f("RSA that signs leaves", outsideWith(t, large, large, zero), keyPEM(t, large), "path length 0")
	f("RSA 2048", outsideWith(t, ec, small, nil), keyPEM(t, small), "2048 bits")
	f("an RSA 2048 root", outsideWith(t, small, ec, nil), keyPEM(t, ec), "2048 bits")
	p521 := curve(elliptic.P521())
	f("P-521", outsideWith(t, ec, p521, nil), keyPEM(t, p521), "P-521")

	o := outsideWith(t, ec, ec, nil)
	der, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	sec1 := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	f("as OpenSSL writes it", o, append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), sec1...), "")
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(large.(*rsa.PrivateKey))})
	f("RSA as OpenSSL writes it", outsideWith(t, large, large, nil), pkcs1, "")
	f("encrypted", o, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), "openssl pkey")
	f("encrypted in the old way", o, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("x"), Headers: map[string]string{"DEK-Info": "AES"}}), "openssl pkey")
	f("damaged", o, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der[:20]}), "damaged")
}

// During a change of roots the chain has all of them, and is good for whoever
// knows only one.
func TestCrossSigned(t *testing.T) {
	now := time.Now()
	before, after := newAuthority(t, domain, now), newAuthority(t, domain, now)
	cross, err := CrossSign(after.Root, before.Root, before.rootKey, now)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := NewIssuer(after.Key, after.Issuing.Raw, cross.Raw, after.Root.Raw, before.Root.Raw)
	if err != nil {
		t.Fatal(err)
	}
	after.Issuer = issuer
	chain := issue(t, after, mesh.ServerIdentity(domain, "s1"), now)
	withoutRoots := chain[:3]
	for _, roots := range []*x509.CertPool{before.pool, after.pool} {
		if _, err := VerifyPeer(tls.ConnectionState{PeerCertificates: withoutRoots}, roots, domain); err != nil {
			t.Error(err)
		}
		if err := Rechecker(roots)(withoutRoots); err != nil {
			t.Error(err)
		}
	}
	for _, root := range []*x509.Certificate{before.Root, after.Root} {
		if _, err := VerifyPinned(tls.ConnectionState{PeerCertificates: chain}, Pin(root), domain); err != nil {
			t.Errorf("with the pin of %s: %v", root.Subject, err)
		}
	}
	old := issue(t, before, mesh.ServerIdentity(domain, "s1"), now)
	if err := Rechecker(after.pool)(old); err == nil || !strings.Contains(err.Error(), "join again") {
		t.Errorf("what hangs on the old root is judged by the new one: %v", err)
	}
}

func FuzzParseBundle(f *testing.F) {
	o := newOutside(f, nil)
	f.Add(certsPEM(o.intermediate, o.root), keyPEM(f, o.key))
	f.Add(certsPEM(o.root), keyPEM(f, o.rootKey))
	f.Add([]byte("-----BEGIN"), []byte("-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----"))
	f.Fuzz(func(t *testing.T, certs, key []byte) {
		b, err := ParseBundle(certs, key)
		if err == nil && b.Check(domain, time.Now()) == nil && !samePublicKey(b.Chain[0].PublicKey, b.Key.Public()) {
			t.Error("a bundle with the key of another was taken")
		}
	})
}
