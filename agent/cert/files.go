package cert

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/meshd/meshd/internal/atomicfile"
	"github.com/meshd/meshd/internal/mesh"
)

const (
	keyBlock  = "PRIVATE KEY"
	certBlock = "CERTIFICATE"
)

// path of the file that holds an identity's key and chain: one file, so that
// they are replaced together.
func (m *Manager) path(identity mesh.Identity) string {
	return path(m.cfg.Dir, identity)
}

func path(dir string, identity mesh.Identity) string {
	return filepath.Join(dir, string(identity.Kind)+"-"+identity.Name+".pem")
}

// discard deletes a key and its certificate.
func (m *Manager) discard(identity mesh.Identity) {
	if err := atomicfile.Remove(m.path(identity)); err != nil {
		m.log.Warn("a key that is not needed any more was not deleted", "path", m.path(identity), "error", err)
	}
}

// Save keeps a host's own key and chain (DER, leaf first) where Open finds them.
func Save(dir string, host mesh.Identity, key *ecdsa.PrivateKey, chain [][]byte) error {
	cert, err := assemble(host, key, chain)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the folder for certificates: %w", err)
	}
	return save(path(dir, host), cert)
}

func save(path string, cert *tls.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return fmt.Errorf("encoding a key: %w", err)
	}
	var b bytes.Buffer
	pem.Encode(&b, &pem.Block{Type: keyBlock, Bytes: key})
	for _, der := range cert.Certificate {
		pem.Encode(&b, &pem.Block{Type: certBlock, Bytes: der})
	}
	return atomicfile.Write(path, b.Bytes(), 0o600)
}

// load reads a key and its chain; it refuses a file that others could read.
func load(path string, identity mesh.Identity) (*tls.Certificate, error) {
	if err := checkMode(path); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, chain, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	cert, err := assemble(identity, key, chain)
	if err != nil {
		return nil, fmt.Errorf("%s is of no use: %w", path, err)
	}
	return cert, nil
}

func checkMode(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return fmt.Errorf("looking at a key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("the key in %s may have been read by others (mode %04o): if that was a slip, run chmod 600 %s; if not, remove this host from the mesh and join anew", path, mode, path)
	}
	return nil
}

func decode(b []byte) (key *ecdsa.PrivateKey, chain [][]byte, err error) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case keyBlock:
			if key, err = parseKey(block.Bytes); err != nil {
				return nil, nil, err
			}
		case certBlock:
			chain = append(chain, block.Bytes)
		}
	}
	if key == nil {
		return nil, nil, errors.New("it holds no private key")
	}
	return key, chain, nil
}

func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it holds a key of type %T", key)
	}
	return ec, nil
}

// assemble makes a certificate that a TLS connection can show, and makes sure
// that it is the one meant: for this key and this identity alone.
func assemble(identity mesh.Identity, key *ecdsa.PrivateKey, chain [][]byte) (*tls.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate")
	}
	cert := &tls.Certificate{PrivateKey: key}
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("reading a certificate: %w", err)
		}
		if i == 0 {
			cert.Leaf = c
		} else if bytes.Equal(c.RawSubject, c.RawIssuer) {
			continue // peers have the root themselves
		}
		cert.Certificate = append(cert.Certificate, der)
	}
	if !key.PublicKey.Equal(cert.Leaf.PublicKey) {
		return nil, errors.New("the certificate is for another key")
	}
	if len(cert.Leaf.URIs) != 1 || cert.Leaf.URIs[0].String() != identity.String() {
		return nil, fmt.Errorf("the certificate is for %v and not for %s", cert.Leaf.URIs, identity)
	}
	return cert, nil
}
