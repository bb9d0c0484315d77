package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/pki"
)

const cluster, domain = "c1", "mesh-1"

func newAuthority(t *testing.T) (*apiv1.Authority, pki.SealingKey, *Authority) {
	t.Helper()
	key := pki.NewSealingKey()
	stored, err := Vault{cluster, key}.Create(domain, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a, err := Vault{cluster, key}.Open(stored)
	if err != nil {
		t.Fatal(err)
	}
	return stored, key, a
}

// request asks for a certificate with names that nobody may have by asking.
func request(t *testing.T) (csr, keyHash []byte) {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	evil, _ := url.Parse("spiffe://mesh-1/server/s1")
	csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin"}, DNSNames: []string{"s1"}, URIs: []*url.URL{evil},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(der)
	return csr, hash[:]
}

func sign(t *testing.T, a *Authority, id mesh.Identity, ttl time.Duration) (*x509.Certificate, *Signed, []byte) {
	t.Helper()
	csr, hash := request(t)
	signed, err := a.Sign(csr, id, ttl)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(signed.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf, signed, hash
}

func TestSignDecidesTheName(t *testing.T) {
	_, _, a := newAuthority(t)
	id := mesh.ServiceIdentity(domain, "web")
	leaf, signed, hash := sign(t, a, id, time.Hour)
	if got, err := pki.LeafIdentity(leaf); err != nil || got != id {
		t.Errorf("the certificate is of %v (%v), want %v", got, err, id)
	}
	if leaf.Subject.CommonName != "" || len(leaf.DNSNames) > 0 {
		t.Errorf("names of the request got into the certificate: %v %v", leaf.Subject, leaf.DNSNames)
	}
	if !bytes.Equal(signed.KeyHash, hash) {
		t.Error("the hash is not of the request's key")
	}
	pool, err := pki.Pool(a.Roots()...)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pki.VerifyPeer(state(t, signed.Chain), pool, domain); err != nil || got != id {
		t.Errorf("verifying the chain gave %v, %v", got, err)
	}
	if _, err := pki.VerifyPinned(state(t, signed.Chain), a.Pin(), domain); err == nil || !strings.Contains(err.Error(), "no server") {
		t.Errorf("verifying by the pin gave %v, want that it is no server", err)
	}
}

func TestSignRefuses(t *testing.T) {
	_, _, a := newAuthority(t)
	csr, _ := request(t)
	f := func(csr []byte, id mesh.Identity, ttl time.Duration, want string) {
		t.Helper()
		if _, err := a.Sign(csr, id, ttl); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("signing gave %v, want %q", err, want)
		}
	}
	f(csr, mesh.ServiceIdentity("other", "web"), time.Hour, "not of this mesh")
	f(csr, mesh.ServiceIdentity(domain, "web/x"), time.Hour, "web/x")
	f(csr, mesh.ServiceIdentity(domain, "web"), 0, "not positive")
	f(csr[:20], mesh.ServiceIdentity(domain, "web"), time.Hour, "request")
}

func TestLeafEndsWithTheIssuingCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, a := newAuthority(t)
		time.Sleep(pki.IssuingLife - time.Hour)
		leaf, signed, _ := sign(t, a, mesh.HostIdentity(domain, "h1"), 24*time.Hour)
		issuing, err := x509.ParseCertificate(signed.Chain[1])
		if err != nil {
			t.Fatal(err)
		}
		if !leaf.NotAfter.Equal(issuing.NotAfter) {
			t.Errorf("the leaf ends %v, the issuing certificate %v", leaf.NotAfter, issuing.NotAfter)
		}
	})
}

func TestKeysAreSealedForTheirPlace(t *testing.T) {
	stored, key, _ := newAuthority(t)
	f := func(cluster string, key pki.SealingKey, change func(*apiv1.Authority), want string) {
		t.Helper()
		a := proto.CloneOf(stored)
		if change != nil {
			change(a)
		}
		if _, err := (Vault{cluster, key}).Open(a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("opening gave %v, want %q", err, want)
		}
	}
	f("c2", key, nil, "sealed with another key or for another purpose")
	f(cluster, pki.NewSealingKey(), nil, "sealed with another key")
	f(cluster, key, func(a *apiv1.Authority) { a.SealedIssuingKey = a.SealedRootKey }, "another purpose")
	f(cluster, key, func(a *apiv1.Authority) { a.IssuingCertificate = a.RootCertificate }, "another key")
	f(cluster, key, func(a *apiv1.Authority) { a.SealedIssuingKey = nil }, "no known form")

	text, err := proto.Marshal(stored)
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := key.Open(stored.SealedIssuingKey, cluster, issuingPurpose)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, issuing) {
		t.Error("a private key is stored in the clear")
	}
}

func state(t *testing.T, chain [][]byte) tls.ConnectionState {
	t.Helper()
	var s tls.ConnectionState
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		s.PeerCertificates = append(s.PeerCertificates, c)
	}
	return s
}
