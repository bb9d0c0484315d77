package cert

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/meshd/meshd/internal/pki"
)

// spread is the time over which hosts renew certificates of an older authority:
// all of them at once would keep servers from their other work.
const spread = 30 * time.Second

// anchors are what the host trusts.
type anchors struct {
	all     *x509.CertPool
	current *x509.CertPool // the root that what is signed now hangs on; all if there is no other
}

// Roots are the trust anchors of the mesh.
func (m *Manager) Roots() *x509.CertPool { return m.roots.Load().all }

// CurrentRoots is the one that stays, while the mesh changes its root.
func (m *Manager) CurrentRoots() *x509.CertPool { return m.roots.Load().current }

// SetRoots replaces the trust anchors by the certificates given in DER, of which
// the first is the one that stays. It changes nothing when one of them cannot be
// read, or there are none.
func (m *Manager) SetRoots(der [][]byte) error {
	if len(der) == 0 {
		return errors.New("the mesh's root certificates are missing")
	}
	all, err := pki.Pool(der...)
	if err != nil {
		return err
	}
	current := all
	if len(der) > 1 {
		if current, err = pki.Pool(der[0]); err != nil {
			return err
		}
	}
	m.roots.Store(&anchors{all, current})
	m.judge(all)
	return nil
}

// judge finds the certificates that peers would not accept any more: nobody told
// this host in time.
func (m *Manager) judge(roots *x509.CertPool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.wanted {
		if s.cert == nil {
			continue
		}
		if err := checkChain(s, roots); err != nil {
			s.problem = fmt.Sprintf("the mesh has replaced its root and accepts the certificate no more: %v", err)
			s.due = time.Now()
			m.log.Error("a certificate hangs on a root that the mesh has given up", "identity", s.identity.String(), "error", err)
		}
	}
}

func checkChain(s *slot, roots *x509.CertPool) error {
	chain, err := parseChain(s.cert.Certificate)
	if err != nil || time.Now().After(s.cert.Leaf.NotAfter) {
		return err // what has ended is another matter
	}
	return pki.Rechecker(roots)(chain)
}

func parseChain(ders [][]byte) (chain []*x509.Certificate, err error) {
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("reading a certificate: %w", err)
		}
		chain = append(chain, c)
	}
	return chain, nil
}

// SetGeneration says what the authority's generation is. Certificates of an older
// one are renewed, some sooner and some later.
func (m *Manager) SetGeneration(generation uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if generation == m.generation {
		return
	}
	m.generation = generation
	for _, s := range m.wanted {
		m.hasten(s)
	}
	m.poke()
}

// hasten has a certificate of an older authority renewed soon.
func (m *Manager) hasten(s *slot) {
	if s.cert == nil || s.generation >= m.generation {
		return
	}
	if soon := time.Now().Add(rand.N(spread)); soon.Before(s.due) {
		s.due = soon
	}
}

// Generation is the lowest among the authorities that have signed this host's
// certificates.
func (m *Manager) Generation() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	lowest := uint64(math.MaxUint64)
	for _, s := range m.wanted {
		if s.cert != nil {
			lowest = min(lowest, s.generation)
		}
	}
	if lowest == math.MaxUint64 {
		return 0
	}
	return lowest
}
