package cert

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/meshd/meshd/internal/atomicfile"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/pki"
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

// checkModes refuses keys that other users could have read.
func checkModes(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("looking for certificates: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // gone again, or nothing of ours
		}
		if err := pki.CheckMode(filepath.Join(dir, e.Name()), info.Mode()); err != nil {
			return err
		}
	}
	return nil
}

// Save keeps a host's own key and chain (DER, leaf first), signed by the
// authority of a generation, where Open finds them.
func Save(dir string, host mesh.Identity, key *ecdsa.PrivateKey, chain [][]byte, generation uint64) error {
	cert, err := assemble(host, key, chain)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the folder for certificates: %w", err)
	}
	return save(path(dir, host), cert, generation)
}

// generationLine stands before the key. PEM leaves out what is between blocks.
const generationLine = "authority generation %d\n"

func save(path string, cert *tls.Certificate, generation uint64) error {
	key, err := pki.MarshalKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		return err
	}
	defer clear(key)
	text := fmt.Appendf(nil, generationLine, generation)
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: key})...)
	for _, der := range cert.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der})...)
	}
	return pki.WriteSecret(path, text)
}

// load reads a key and its chain; it refuses a file that others could read. A
// file without a generation is of the mesh's first authority.
func load(path string, identity mesh.Identity) (cert *tls.Certificate, generation uint64, err error) {
	text, err := pki.ReadSecret(path)
	if err != nil {
		return nil, 0, err
	}
	defer clear(text)
	key, chain, err := decode(text)
	if err != nil {
		return nil, 0, fmt.Errorf("reading %s: %w", path, err)
	}
	if cert, err = assemble(identity, key, chain); err != nil {
		return nil, 0, fmt.Errorf("reading %s: %w", path, err)
	}
	if _, err := fmt.Sscanf(string(text[:min(len(text), 64)]), generationLine, &generation); err != nil {
		generation = 0
	}
	return cert, generation, nil
}

func decode(text []byte) (key *ecdsa.PrivateKey, chain [][]byte, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case keyBlock:
			if key, err = pki.ParseKey(block.Bytes); err != nil {
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

// assemble makes a certificate that a TLS connection can show, and makes sure
// that it is the one meant: for this key and this identity alone.
func assemble(identity mesh.Identity, key *ecdsa.PrivateKey, chain [][]byte) (*tls.Certificate, error) {
	cert, err := pki.Certificate(chain, key)
	if err != nil {
		return nil, err
	}
	got, err := pki.LeafIdentity(cert.Leaf)
	if err != nil {
		return nil, fmt.Errorf("the certificate is of no use: %w", err)
	}
	if got != identity {
		return nil, fmt.Errorf("the certificate is for %s and not for %s", got, identity)
	}
	cert.Certificate, err = withoutRoot(chain)
	return cert, err
}

// withoutRoot leaves out what every peer has itself and would not believe
// anyway.
func withoutRoot(chain [][]byte) (kept [][]byte, err error) {
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("reading a certificate: %w", err)
		}
		if i == 0 || !bytes.Equal(c.RawSubject, c.RawIssuer) {
			kept = append(kept, der)
		}
	}
	return kept, nil
}
