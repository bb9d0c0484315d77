package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

const (
	// maxBundle leaves room in a chain for what a mesh adds: see maxChain.
	maxBundle = 4
	// minLife is how much longer each certificate of a bundle must be valid: the
	// next one has to be brought in time.
	minLife = 30 * 24 * time.Hour
)

// A Bundle is an authority that was made elsewhere: a certificate with its key,
// and the certificates above it.
type Bundle struct {
	Chain []*x509.Certificate // the first has Key, the last is a root
	Key   crypto.Signer
}

// ParseBundle reads an authority's certificates, each signed by the next and the
// last a root, and the key of the first, both in PEM. Errors never quote the
// key.
func ParseBundle(certificates, key []byte) (*Bundle, error) {
	ders, err := parseCertificates(certificates)
	if err != nil {
		return nil, fmt.Errorf("reading the authority's certificates: %w", err)
	}
	b := &Bundle{}
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("reading the authority's certificates: %w", err)
		}
		b.Chain = append(b.Chain, c)
	}
	if b.Key, err = parsePEMKey(key); err != nil {
		return nil, fmt.Errorf("reading the authority's key: %w", err)
	}
	return b, nil
}

func parsePEMKey(text []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, errors.New("it has no private key in PEM")
		}
		defer clear(block.Bytes)
		key, err := parseKeyBlock(block)
		if key != nil || err != nil {
			return key, err
		}
	}
}

// parseKeyBlock gives nil for a block that is no key, such as the parameters
// that OpenSSL writes before one.
func parseKeyBlock(block *pem.Block) (key crypto.Signer, err error) {
	switch block.Type {
	case pemKey:
		return ParseAuthorityKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		err = errors.New("encrypted")
	default:
		return nil, nil
	}
	switch {
	case block.Headers["DEK-Info"] != "" || block.Type == "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("it is protected by a passphrase; take it off first: openssl pkey -in KEY -out KEY.plain")
	case err != nil:
		return nil, errors.New("the private key is damaged") // the cause could quote it
	}
	return key, checkAuthorityKey(key.Public())
}

// Root is the certificate that everything hangs on.
func (b *Bundle) Root() *x509.Certificate { return b.Chain[len(b.Chain)-1] }

// SignsLeaves says that the bundle's first certificate can have no authority
// under it, so that it is the issuing certificate itself.
func (b *Bundle) SignsLeaves() bool { return len(b.Chain) > 1 && b.Chain[0].MaxPathLenZero }

// Check says why a mesh cannot have the bundle as its authority.
func (b *Bundle) Check(trustDomain string, now time.Time) error {
	if len(b.Chain) > maxBundle {
		return fmt.Errorf("the authority has %d certificates one above the other: %d are the most", len(b.Chain), maxBundle)
	}
	for i, c := range b.Chain {
		if err := b.checkOne(i, now); err != nil {
			return fmt.Errorf("certificate %d (%s): %w", i+1, c.Subject, err)
		}
	}
	if !samePublicKey(b.Chain[0].PublicKey, b.Key.Public()) {
		return errors.New("the key is not that of the first certificate")
	}
	if _, ecdsaKey := b.Key.(*ecdsa.PrivateKey); b.SignsLeaves() && !ecdsaKey {
		return errors.New("a certificate with path length 0 signs those of hosts and services itself, and needs a key of type P-256 or P-384 for that: RSA is taken for those above it only")
	}
	return b.try(trustDomain, now)
}

func (b *Bundle) checkOne(i int, now time.Time) error {
	c := b.Chain[i]
	below := i // authorities between c and the leaves
	if !b.SignsLeaves() {
		below++
	}
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("it is not of an authority (basic constraints CA:TRUE)")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("its key usage does not let it sign certificates (keyCertSign)")
	case (c.MaxPathLen > 0 || c.MaxPathLenZero) && c.MaxPathLen < below:
		return fmt.Errorf("its path length is %d, and there are %d authorities below it", c.MaxPathLen, below)
	case now.Before(c.NotBefore):
		return fmt.Errorf("it is not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	case c.NotAfter.Sub(now) < minLife:
		return fmt.Errorf("it ends on %s: it must be valid for at least %d more days", c.NotAfter.UTC().Format(time.RFC3339), minLife/(24*time.Hour))
	}
	if err := checkAuthorityKey(c.PublicKey); err != nil {
		return err
	}
	return b.checkSigner(i)
}

func (b *Bundle) checkSigner(i int) error {
	c := b.Chain[i]
	if i == len(b.Chain)-1 {
		if c.CheckSignatureFrom(c) != nil {
			return fmt.Errorf("it is no root but signed by %q: add the certificates above it, up to the root", c.Issuer)
		}
		return nil
	}
	if err := c.CheckSignatureFrom(b.Chain[i+1]); err != nil {
		return fmt.Errorf("it is not signed by the certificate that follows it, %s: put each before the one that signed it", b.Chain[i+1].Subject)
	}
	return nil
}

// try has the bundle issue a certificate as a mesh would.
func (b *Bundle) try(trustDomain string, now time.Time) error {
	issuer, err := b.issuer(trustDomain, now)
	if err != nil {
		return err
	}
	return issuer.Try(b.Root(), trustDomain, now)
}

func (b *Bundle) issuer(trustDomain string, now time.Time) (*Issuer, error) {
	i := &Issuer{Issuing: b.Chain[0], Key: b.Key}
	above := b.Chain[1:]
	if !b.SignsLeaves() {
		key, err := NewKey()
		if err != nil {
			return nil, err
		}
		if i.Issuing, err = NewIssuing(b.Chain[0], b.Key, trustDomain, &key.PublicKey, now); err != nil {
			return nil, err
		}
		i.Key, above = key, b.Chain
	}
	for _, c := range above {
		i.above = append(i.above, c.Raw)
	}
	return i, nil
}
