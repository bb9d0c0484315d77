// Package pki makes, keeps and verifies the keys and certificates of a mesh:
// a root, an issuing certificate under it, and short-lived leaves that carry
// one SPIFFE ID and nothing else.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// NewKey makes a private key: P-256, as all keys of a mesh are.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a private key: %w", err)
	}
	return key, nil
}

// MarshalKey encodes a private key (PKCS #8).
func MarshalKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a private key: %w", err)
	}
	return der, nil
}

// ParseKey reads what MarshalKey encoded.
func ParseKey(der []byte) (*ecdsa.PrivateKey, error) {
	any, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		// The error of the library is left out: it could quote the key.
		return nil, errors.New("it is no private key in PKCS #8")
	}
	key, ok := any.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("its private key is not of type P-256")
	}
	return key, nil
}

// ParseAuthorityKey reads the private key of an authority (PKCS #8): P-256, P-384
// or RSA of 3072 bits and more.
func ParseAuthorityKey(der []byte) (crypto.Signer, error) {
	any, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("it is no private key in PKCS #8") // as in ParseKey
	}
	key, ok := any.(crypto.Signer)
	if !ok {
		return nil, errors.New("its private key cannot sign")
	}
	return key, checkAuthorityKey(key.Public())
}

// minRSA is the least size of an RSA key in bits: as strong as P-256.
const minRSA = 3072

// checkAuthorityKey says why a key cannot be an authority's.
func checkAuthorityKey(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return nil
		}
		return fmt.Errorf("its key is on the curve %s: P-256 and P-384 are taken", key.Curve.Params().Name)
	case *rsa.PublicKey:
		if key.N.BitLen() >= minRSA {
			return nil
		}
		return fmt.Errorf("its RSA key has %d bits: at least %d are needed", key.N.BitLen(), minRSA)
	}
	return fmt.Errorf("its key is of type %T: P-256, P-384 and RSA are taken", key)
}

// Pin is the SHA-256 of a certificate's public key, by which a joining host
// recognises the root.
func Pin(cert *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// Pool is the set of trust anchors with these certificates (DER).
func Pool(roots ...[]byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, der := range roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("reading a root certificate: %w", err)
		}
		pool.AddCert(root)
	}
	return pool, nil
}

// Certificate is what a TLS connection shows: a chain (DER, leaf first) and the
// key of its leaf.
func Certificate(chain [][]byte, key crypto.Signer) (*tls.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("the certificate chain is empty")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("reading a certificate: %w", err)
	}
	if !samePublicKey(leaf.PublicKey, key.Public()) {
		return nil, errors.New("the certificate is for another key than the one beside it")
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

func samePublicKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// BaseConfig is what every TLS connection of a mesh has in common. Peers have
// SPIFFE IDs and no host names, so the caller sets VerifyConnection, which does
// all of the verification. Sessions are never resumed: each connection proves
// anew that its certificate still holds.
func BaseConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true,
	}
}
