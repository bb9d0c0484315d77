package cert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/meshd/meshd/internal/mesh"
)

// An order is one certificate asked for.
type order struct {
	identity mesh.Identity
	key      *ecdsa.PrivateKey
	csr      []byte
}

// newOrder makes the request for a certificate. The host keeps its key, by which
// the servers know it; a service gets a new one each time.
func newOrder(s *slot) (order, error) {
	key, err := keyFor(s)
	if err != nil {
		return order{}, fmt.Errorf("making a key: %w", err)
	}
	// The servers go by what they know of this host, not by names in a request.
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return order{}, fmt.Errorf("making a certificate request: %w", err)
	}
	return order{s.identity, key, csr}, nil
}

func keyFor(s *slot) (*ecdsa.PrivateKey, error) {
	if s.cert != nil && s.identity.Kind == mesh.KindHost {
		return s.cert.PrivateKey.(*ecdsa.PrivateKey), nil
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// fill gives the certificate that the answer to an order holds, if the mesh
// would recognise it.
func (m *Manager) fill(o order, chain [][]byte) (*tls.Certificate, error) {
	cert, err := assemble(o.identity, o.key, chain)
	if err != nil {
		return nil, fmt.Errorf("the servers sent what was not asked for: %w", err)
	}
	intermediates := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			intermediates.AddCert(c)
		}
	}
	_, err = cert.Leaf.Verify(x509.VerifyOptions{
		Roots: m.Roots(), Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return nil, fmt.Errorf("the certificate is not valid at this host's time, %s: set the clock: %w", time.Now().Format(time.RFC3339), err)
	}
	if err != nil {
		return nil, fmt.Errorf("the certificate is not of this mesh: %w", err)
	}
	return cert, nil
}
