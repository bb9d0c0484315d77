package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/meshd/meshd/internal/atomicfile"
)

const (
	pemKey         = "PRIVATE KEY"
	pemCertificate = "CERTIFICATE"
	maxFile        = 1 << 20
)

// WriteKey keeps a private key (PEM, mode 0600).
func WriteKey(path string, key *ecdsa.PrivateKey) error {
	der, err := MarshalKey(key)
	if err != nil {
		return err
	}
	return WriteSecret(path, pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}))
}

// ReadKey reads what WriteKey wrote. It refuses a file that others can read.
func ReadKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := ReadSecret(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != pemKey || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("reading %s: it is not one private key in PEM", path)
	}
	key, err := ParseKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return key, nil
}

// WriteCertificates keeps certificates (DER) in a PEM file.
func WriteCertificates(path string, certs [][]byte) error {
	var text bytes.Buffer
	for _, der := range certs {
		if err := pem.Encode(&text, &pem.Block{Type: pemCertificate, Bytes: der}); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	return atomicfile.Write(path, text.Bytes(), 0o644)
}

// ReadCertificates gives the certificates (DER) of a PEM file, at least one.
func ReadCertificates(path string) ([][]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	certs, err := parseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("reading certificates from %s: %w", path, err)
	}
	return certs, nil
}

func parseCertificates(text []byte) (certs [][]byte, err error) {
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		switch {
		case block == nil && len(certs) > 0 && len(bytes.TrimSpace(text)) == 0:
			return certs, nil
		case block == nil || block.Type != pemCertificate:
			return nil, errors.New("it has something else than certificates in PEM")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, err
		}
		certs = append(certs, block.Bytes)
	}
}

// WriteSecret keeps a secret in a file that only its owner can read.
func WriteSecret(path string, secret []byte) error {
	return atomicfile.Write(path, secret, 0o600)
}

// CheckMode says why a file with that mode must not hold a secret, and the way
// out.
func CheckMode(path string, mode os.FileMode) error {
	if mode.Perm()&0o077 == 0 {
		return nil
	}
	return fmt.Errorf("%s holds a secret but is open to other users (mode %04o); close it with: chmod 600 %s", path, mode.Perm(), path)
}

// ReadSecret reads a secret. It refuses a file that others can read: the secret
// may have been read already.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading a secret: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading a secret: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading a secret: %s is no regular file", path)
	}
	if err := CheckMode(path, info.Mode()); err != nil {
		return nil, err
	}
	secret, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return secret, nil
}
