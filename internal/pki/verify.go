package pki

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/meshd/meshd/internal/mesh"
)

// ErrNoCertificate says that the peer of a connection showed no certificate.
var ErrNoCertificate = errors.New("the peer showed no certificate")

// maxChain bounds the work of verifying what a stranger sent.
const maxChain = 8

// VerifyPeer gives the identity that the peer of a connection has proved. It is
// meant for tls.Config.VerifyConnection, which unlike VerifyPeerCertificate
// also runs when a session is resumed.
func VerifyPeer(state tls.ConnectionState, roots *x509.CertPool, trustDomain string) (mesh.Identity, error) {
	chain := state.PeerCertificates
	if err := checkLength(chain); err != nil {
		return mesh.Identity{}, err
	}
	id, err := LeafIdentity(chain[0])
	if err != nil {
		return mesh.Identity{}, fmt.Errorf("the peer's certificate: %w", err)
	}
	if id.TrustDomain != trustDomain {
		return mesh.Identity{}, fmt.Errorf("the peer is %s, which is not of trust domain %s", id, trustDomain)
	}
	if err := verifyChain(chain, roots); err != nil {
		return mesh.Identity{}, fmt.Errorf("the certificate of the peer, who claims to be %s: %w", id, err)
	}
	return id, nil
}

// VerifyPinned is VerifyPeer for a host that joins and knows of its mesh only
// the pin of the root's key: the peer's chain must end in a root with that key,
// and the peer must be a server.
func VerifyPinned(state tls.ConnectionState, pin [sha256.Size]byte, trustDomain string) (mesh.Identity, error) {
	roots, err := pinned(state.PeerCertificates, pin)
	if err != nil {
		return mesh.Identity{}, err
	}
	id, err := VerifyPeer(state, roots, trustDomain)
	if err != nil {
		return mesh.Identity{}, err
	}
	if id.Kind != mesh.KindServer {
		return mesh.Identity{}, fmt.Errorf("the peer is %s, which is no server", id)
	}
	return id, nil
}

func checkLength(chain []*x509.Certificate) error {
	switch {
	case len(chain) == 0:
		return ErrNoCertificate
	case len(chain) > maxChain:
		return fmt.Errorf("the peer's chain has %d certificates, more than %d", len(chain), maxChain)
	}
	return nil
}

// pinned gives the root with the pinned key. While roots are changed there is
// more than one in a chain.
func pinned(chain []*x509.Certificate, pin [sha256.Size]byte) (*x509.CertPool, error) {
	if err := checkLength(chain); err != nil {
		return nil, err
	}
	err := errors.New("the peer's root certificate has another key than the pinned one: the mesh has replaced its root since the pin was made, so that a new token is needed, or it is a server of another mesh, or somebody is in between")
	for _, c := range chain {
		if Pin(c) != pin {
			continue
		}
		if err = c.CheckSignatureFrom(c); err == nil {
			pool := x509.NewCertPool()
			pool.AddCert(c)
			return pool, nil
		}
		err = fmt.Errorf("the peer's certificate with the pinned key is no root: %w", err)
	}
	return nil, err
}

// LeafIdentity reads the identity in a certificate, whose only name it must be.
// It does not verify who signed it.
func LeafIdentity(cert *x509.Certificate) (mesh.Identity, error) {
	if cert.IsCA || cert.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return mesh.Identity{}, errors.New("it is of an authority, which cannot speak for itself")
	}
	uri, err := onlyURI(cert)
	if err != nil {
		return mesh.Identity{}, err
	}
	return mesh.ParseIdentity(uri)
}

var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	tagURI            = 6
)

// onlyURI reads the bytes as they were signed: url.URL, which x509 makes of
// them, has one form for several spellings.
func onlyURI(cert *x509.Certificate) (string, error) {
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &names); err != nil || len(rest) > 0 {
			return "", errors.New("its names cannot be read")
		}
		if len(names) != 1 {
			return "", fmt.Errorf("it has %d names instead of one SPIFFE ID", len(names))
		}
		if names[0].Class != asn1.ClassContextSpecific || names[0].Tag != tagURI {
			return "", errors.New("its name is no SPIFFE ID")
		}
		return string(names[0].Bytes), nil
	}
	return "", errors.New("it has no SPIFFE ID")
}

// Rechecker gives a function that says whether what peers have proved holds under
// roots too, by the chains they showed. It remembers its answers, for a peer has
// many connections.
func Rechecker(roots *x509.CertPool) func(chain []*x509.Certificate) error {
	known := map[string]error{}
	return func(chain []*x509.Certificate) error {
		if err := checkLength(chain); err != nil {
			return err
		}
		err, ok := known[string(chain[0].Raw)]
		if !ok {
			err = verifyChain(chain, roots)
			known[string(chain[0].Raw)] = err
		}
		return err
	}
}

func verifyChain(chain []*x509.Certificate, roots *x509.CertPool) error {
	if roots == nil { // would stand for the system's
		return errors.New("there are no trust anchors")
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	verified, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return fmt.Errorf("it hangs on no root that is trusted here: it is of another mesh, or one side was away while the mesh replaced its root and has to join again: %w", err)
	}
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(verified, bothUsages) {
		return errors.New("it is not meant for both TLS servers and clients")
	}
	return nil
}

// bothUsages is there because whoever has a certificate is at times the one
// side of a connection and at times the other; an authority without any usage
// restricts nothing.
func bothUsages(chain []*x509.Certificate) bool {
	for i, c := range chain {
		unrestricted := i > 0 && len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0
		server := slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		client := slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		if !unrestricted && !(server && client) {
			return false
		}
	}
	return true
}
