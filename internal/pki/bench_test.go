package pki

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/meshd/meshd/internal/mesh"
)

// BenchmarkSign is what one certificate costs a server, its request included.
func BenchmarkSign(b *testing.B) {
	now := time.Now()
	a := newAuthority(b, domain, now)
	csr := newCSR(b, newKey(b))
	for b.Loop() {
		if _, err := a.IssueLeaf(csr, mesh.ServiceIdentity(domain, "web"), 24*time.Hour, now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHandshake is one connection with both sides' certificates verified,
// both sides' work taken together.
func BenchmarkHandshake(b *testing.B) {
	now := time.Now()
	a := newAuthority(b, domain, now)
	config := func(id mesh.Identity) *tls.Config {
		key := newKey(b)
		chain, err := a.IssueLeaf(newCSR(b, key), id, time.Hour, now)
		if err != nil {
			b.Fatal(err)
		}
		cert, err := Certificate(chain, key)
		if err != nil {
			b.Fatal(err)
		}
		c := BaseConfig()
		c.Certificates, c.ClientAuth = []tls.Certificate{*cert}, tls.RequireAnyClientCert
		c.VerifyConnection = func(state tls.ConnectionState) error {
			_, err := VerifyPeer(state, a.pool, domain)
			return err
		}
		return c
	}
	client, server := config(mesh.ServiceIdentity(domain, "web")), config(mesh.ServiceIdentity(domain, "orders"))
	for b.Loop() {
		if err := handshake(client, server); err != nil {
			b.Fatal(err)
		}
	}
}
