package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
)

// maxCSR is several times the size of a request for a P-256 key.
const maxCSR = 4096

// NewCSR makes a request (PKCS #10, DER) for a certificate. It proves that the
// caller has the key and says nothing else.
func NewCSR(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate request: %w", err)
	}
	return der, nil
}

// publicKey takes the key out of a request whose sender has shown to hold it.
func publicKey(csr []byte) (*ecdsa.PublicKey, error) {
	if len(csr) > maxCSR {
		return nil, fmt.Errorf("the certificate request has %d bytes, more than %d", len(csr), maxCSR)
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate request: %w", err)
	}
	key, ok := req.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the key of the certificate request is not of type P-256")
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the certificate request is not signed by its own key: %w", err)
	}
	return key, nil
}
