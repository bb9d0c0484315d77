package cert

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/pki"
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
		return order{}, err
	}
	csr, err := pki.NewCSR(key)
	return order{s.identity, key, csr}, err
}

func keyFor(s *slot) (*ecdsa.PrivateKey, error) {
	if s.cert != nil && s.identity.Kind == mesh.KindHost {
		return s.cert.PrivateKey.(*ecdsa.PrivateKey), nil
	}
	return pki.NewKey()
}

// fill gives the certificate that the answer to an order holds, if the mesh
// would recognise it.
func (m *Manager) fill(o order, chain [][]byte) (*tls.Certificate, error) {
	cert, err := assemble(o.identity, o.key, chain)
	if err != nil {
		return nil, fmt.Errorf("the servers sent what was not asked for: %w", err)
	}
	shown, err := parseChain(cert.Certificate)
	if err != nil {
		return nil, err
	}
	_, err = pki.VerifyPeer(tls.ConnectionState{PeerCertificates: shown}, m.Roots(), m.cfg.TrustDomain)
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return nil, fmt.Errorf("the certificate is not valid at this host's time, %s; set the clock: %w", time.Now().UTC().Format(time.RFC3339), err)
	}
	if err != nil {
		return nil, fmt.Errorf("the new certificate is not one of this mesh: %w", err)
	}
	return cert, nil
}
