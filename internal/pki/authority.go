package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"

	"github.com/meshd/meshd/internal/mesh"
)

const (
	// RootLife and IssuingLife are how long the certificates of an authority are
	// valid; a leaf lives as long as it is asked for.
	RootLife    = 10 * 365 * 24 * time.Hour
	IssuingLife = 365 * 24 * time.Hour

	// backdate lets a new certificate be valid on hosts whose clock is behind.
	backdate = 5 * time.Minute
)

// NewRoot makes the self-signed certificate at the top of a trust domain.
func NewRoot(trustDomain string, key *ecdsa.PrivateKey, now time.Time) (*x509.Certificate, error) {
	template, err := authorityTemplate(trustDomain, "root", now, RootLife)
	if err != nil {
		return nil, err
	}
	return sign(template, template, &key.PublicKey, key)
}

// NewIssuing makes the certificate that signs leaves: it can make no further
// authority, and no identity outside the trust domain.
func NewIssuing(root *x509.Certificate, rootKey *ecdsa.PrivateKey, trustDomain string, key *ecdsa.PublicKey, now time.Time) (*x509.Certificate, error) {
	template, err := authorityTemplate(trustDomain, "issuing", now, IssuingLife)
	if err != nil {
		return nil, err
	}
	template.MaxPathLen, template.MaxPathLenZero = 0, true
	template.PermittedDNSDomainsCritical = true // of all constraints, whatever the name says
	template.PermittedURIDomains = []string{trustDomain}
	template.ExcludedDNSDomains = []string{""}
	template.ExcludedIPRanges = []*net.IPNet{everything(net.IPv4len), everything(net.IPv6len)}
	template.NotAfter = earlier(template.NotAfter, root.NotAfter)
	return sign(template, root, key, rootKey)
}

func everything(addressLen int) *net.IPNet {
	return &net.IPNet{IP: make(net.IP, addressLen), Mask: make(net.IPMask, addressLen)}
}

// authorityTemplate gives each authority a name of its own, so that those of a
// rotation cannot be taken for one another.
func authorityTemplate(trustDomain, role string, now time.Time, life time.Duration) (*x509.Certificate, error) {
	if err := mesh.CheckTrustDomain(trustDomain); err != nil {
		return nil, err
	}
	serial := newSerial()
	name := fmt.Sprintf("%s %s %s", trustDomain, role, hex.EncodeToString(serial.Bytes()[1:5]))
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"meshd"}, CommonName: name},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            -1,
	}, nil
}

func sign(template, parent *x509.Certificate, key crypto.PublicKey, by crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// newSerial gives 128 random bits, positive and never short.
func newSerial() *big.Int {
	b := make([]byte, 17)
	rand.Read(b[1:]) // never fails
	b[0] = 1
	return new(big.Int).SetBytes(b)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// An Issuer signs leaves.
type Issuer struct {
	Root, Issuing *x509.Certificate
	Key           *ecdsa.PrivateKey // of Issuing
}

// NewIssuer makes an issuer of the certificates (DER) and the issuing key after
// checking that they belong together.
func NewIssuer(root, issuing []byte, key *ecdsa.PrivateKey) (*Issuer, error) {
	r, err := x509.ParseCertificate(root)
	if err != nil {
		return nil, fmt.Errorf("reading the root certificate: %w", err)
	}
	i, err := x509.ParseCertificate(issuing)
	if err != nil {
		return nil, fmt.Errorf("reading the issuing certificate: %w", err)
	}
	if err := i.CheckSignatureFrom(r); err != nil {
		return nil, fmt.Errorf("the issuing certificate is not signed by the root: %w", err)
	}
	if !samePublicKey(i.PublicKey, key.Public()) {
		return nil, errors.New("the issuing certificate is for another key than the one beside it")
	}
	return &Issuer{Root: r, Issuing: i, Key: key}, nil
}

// IssueLeaf signs a certificate for the key of a request (PKCS #10, DER). Of
// the request it takes nothing else: the identity is the issuer's decision. The
// certificate is valid for ttl, or as long as the issuing one if that is
// shorter. The chain is leaf, issuing, root; the root is sent along so that a
// joining host can compare its key with a pin.
func (i *Issuer) IssueLeaf(csr []byte, id mesh.Identity, ttl time.Duration, now time.Time) (chain [][]byte, err error) {
	key, err := publicKey(csr)
	if err != nil {
		return nil, err
	}
	template, err := i.leafTemplate(id, ttl, now)
	if err != nil {
		return nil, fmt.Errorf("issuing a certificate for %s: %w", id, err)
	}
	leaf, err := sign(template, i.Issuing, key, i.Key)
	if err != nil {
		return nil, fmt.Errorf("issuing a certificate for %s: %w", id, err)
	}
	return [][]byte{leaf.Raw, i.Issuing.Raw, i.Root.Raw}, nil
}

func (i *Issuer) leafTemplate(id mesh.Identity, ttl time.Duration, now time.Time) (*x509.Certificate, error) {
	if _, err := mesh.ParseIdentity(id.String()); err != nil {
		return nil, err
	}
	if ttl <= 0 {
		return nil, fmt.Errorf("its life of %v is not positive", ttl)
	}
	if !now.Before(i.Issuing.NotAfter) {
		return nil, fmt.Errorf("the issuing certificate expired on %s", i.Issuing.NotAfter.UTC().Format(time.RFC3339))
	}
	return &x509.Certificate{
		SerialNumber:          newSerial(),
		URIs:                  []*url.URL{id.URL()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              earlier(now.Add(ttl), i.Issuing.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, nil
}
