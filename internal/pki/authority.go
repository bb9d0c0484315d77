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
func NewRoot(trustDomain string, key crypto.Signer, now time.Time) (*x509.Certificate, error) {
	template, err := authorityTemplate(trustDomain, "root", now, RootLife)
	if err != nil {
		return nil, err
	}
	return sign(template, template, key.Public(), key)
}

// NewIssuing makes the certificate that signs leaves: it can make no further
// authority, and no identity outside the trust domain. parent is a root or an
// intermediate certificate.
func NewIssuing(parent *x509.Certificate, parentKey crypto.Signer, trustDomain string, key *ecdsa.PublicKey, now time.Time) (*x509.Certificate, error) {
	template, err := authorityTemplate(trustDomain, "issuing", now, IssuingLife)
	if err != nil {
		return nil, err
	}
	template.MaxPathLen, template.MaxPathLenZero = 0, true
	template.PermittedDNSDomainsCritical = true // of all constraints, whatever the name says
	template.PermittedURIDomains = []string{trustDomain}
	template.ExcludedDNSDomains = []string{""}
	template.ExcludedIPRanges = []*net.IPNet{everything(net.IPv4len), everything(net.IPv6len)}
	template.NotAfter = earlier(template.NotAfter, parent.NotAfter)
	return sign(template, parent, key, parentKey)
}

// CrossSign makes a certificate for the key and name of a root that hangs on
// another root, for those who know only the other one yet.
func CrossSign(root, by *x509.Certificate, byKey crypto.Signer, now time.Time) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		RawSubject:            root.RawSubject,
		SubjectKeyId:          root.SubjectKeyId,
		NotBefore:             now.Add(-backdate),
		NotAfter:              earlier(root.NotAfter, by.NotAfter),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            -1,
	}
	return sign(template, by, root.PublicKey, byKey)
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
	Issuing *x509.Certificate
	Key     crypto.Signer // of Issuing
	above   [][]byte      // what follows Issuing in a chain, DER
}

// NewIssuer makes an issuer of the issuing certificate with its key, and the
// certificates above it (all DER), that which has signed it first. It checks
// that they belong together.
func NewIssuer(key crypto.Signer, issuing []byte, above ...[]byte) (*Issuer, error) {
	i, err := x509.ParseCertificate(issuing)
	if err != nil {
		return nil, fmt.Errorf("reading the issuing certificate: %w", err)
	}
	if len(above) == 0 {
		return nil, errors.New("the issuing certificate hangs on no root")
	}
	parent, err := x509.ParseCertificate(above[0])
	if err != nil {
		return nil, fmt.Errorf("reading the certificate above the issuing one: %w", err)
	}
	if err := i.CheckSignatureFrom(parent); err != nil {
		return nil, fmt.Errorf("the issuing certificate is not signed by the one above it: %w", err)
	}
	if !samePublicKey(i.PublicKey, key.Public()) {
		return nil, errors.New("the issuing certificate is for another key than the one beside it")
	}
	return &Issuer{Issuing: i, Key: key, above: above}, nil
}

// Above are the certificates that follow a leaf in its chain (DER).
func (i *Issuer) Above() [][]byte { return append([][]byte{i.Issuing.Raw}, i.above...) }

// IssueLeaf signs a certificate for the key of a request (PKCS #10, DER). Of
// the request it takes nothing else: the identity is the issuer's decision. The
// certificate is valid for ttl, or as long as the issuing one if that is
// shorter. The chain is the leaf and all above it, up to the root, which is sent
// along so that a joining host can compare its key with a pin.
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
	return append([][]byte{leaf.Raw}, i.Above()...), nil
}

// Try says why those who trust root alone would not accept what the issuer
// signs. That finds what constraints of names, usage and path length forbid.
func (i *Issuer) Try(root *x509.Certificate, trustDomain string, now time.Time) error {
	key, err := NewKey()
	if err != nil {
		return err
	}
	csr, err := NewCSR(key)
	if err != nil {
		return err
	}
	ders, err := i.IssueLeaf(csr, mesh.HostIdentity(trustDomain, "trial"), time.Hour, now)
	if err != nil {
		return err
	}
	var chain []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("reading a certificate just made: %w", err)
		}
		chain = append(chain, c)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	if err := verifyChain(chain, roots); err != nil {
		return fmt.Errorf("a certificate of trust domain %s under the authority would not be accepted: %w", trustDomain, err)
	}
	return nil
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
