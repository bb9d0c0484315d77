// Package grpcx carries gRPC, and Raft and HTTP beside it, over one TLS port: who is at
// the other end of a call is known by its SPIFFE ID, or by the kernel on a unix
// socket. It runs on any netx.Network.
package grpcx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/internal/pki"
)

// ALPN protocols of a server's TLS port.
const (
	GRPC = "h2"
	HTTP = "http/1.1"
	Raft = "meshd-raft"
)

// RaftOf is Raft among the servers of one cluster that have as many recoveries
// from a lost majority behind them: others do not speak it.
func RaftOf(clusterID string, recovery uint32) string {
	return fmt.Sprintf("%s/%s/%d", Raft, clusterID, recovery)
}

// A TLS is what one end of connections shows and whom it trusts. The functions
// are called for every handshake, so that what was renewed is used at once.
type TLS struct {
	TrustDomain string
	// Roots are the trust anchors.
	Roots func() *x509.CertPool
	// Certificate is what the end shows. A client may have none: the function or
	// what it returns may be nil.
	Certificate func() *tls.Certificate
	// Links count the connections to peers with certificates; nil counts none.
	Links *Links
}

var errNoCertificate = errors.New("this process has no certificate yet")

// server asks clients for a certificate and verifies it, but takes those
// without one too: whoever has not joined yet has none.
func (t TLS) server() *tls.Config {
	c := pki.BaseConfig()
	c.ClientAuth = tls.RequestClientCert
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if cert := t.certificate(); cert != nil {
			return cert, nil
		}
		return nil, errNoCertificate
	}
	return c
}

// client accepts no other peer than a server of the trust domain.
func (t TLS) client(alpn ...string) *tls.Config {
	c := clientConfig(alpn, func(state tls.ConnectionState) error {
		id, err := pki.VerifyPeer(state, t.Roots(), t.TrustDomain)
		if err == nil && id.Kind != mesh.KindServer {
			err = fmt.Errorf("the peer is %s, which is no server", id)
		}
		return err
	})
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if cert := t.certificate(); cert != nil {
			return cert, nil
		}
		return &tls.Certificate{}, nil // that is how none is shown
	}
	return c
}

func (t TLS) certificate() *tls.Certificate {
	if t.Certificate == nil {
		return nil
	}
	return t.Certificate()
}

func clientConfig(alpn []string, verify func(tls.ConnectionState) error) *tls.Config {
	c := pki.BaseConfig()
	c.NextProtos = alpn
	c.VerifyConnection = verify
	return c
}

// Dial connects to a server by a protocol other than gRPC, the first of those
// given that it speaks.
func (t TLS) Dial(ctx context.Context, network netx.Network, address string, alpn ...string) (net.Conn, error) {
	raw, err := network.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, t.client(alpn...))
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", address, err)
	}
	if got := c.ConnectionState().NegotiatedProtocol; !slices.Contains(alpn, got) {
		c.Close()
		return nil, fmt.Errorf("TLS handshake with %s: it does not speak %s", address, alpn[0])
	}
	return linked{c, t.Links.add(raw, c.ConnectionState().PeerCertificates)}, nil
}
