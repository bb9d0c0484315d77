package pool

import (
	"crypto/x509"
	"sync"
	"time"

	"github.com/meshd/meshd/internal/pki"
)

// passingAge is how old a link may become whose peer's certificate hangs on a
// root that is about to go. Until the peer has renewed its certificate another
// link would be no better.
const passingAge = 30 * time.Second

// Recheck ends the links whose peers' certificates hold under no root that is
// trusted by now, those in use as well, and says how many those are.
func (p *Pool) Recheck() (cut int) {
	holds := pki.Rechecker(p.source.Roots())
	for _, c := range p.links() {
		if holds(c.chain) != nil {
			cut++
			c.Abort()
		}
	}
	return cut
}

func (p *Pool) links() (links []*Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		if c.chain != nil {
			links = append(links, c)
		}
	}
	return links
}

// stays reports whether the peer's certificate hangs on a root that stays.
func (p *Pool) stays(c *Conn) bool {
	current := p.source.CurrentRoots()
	return c.chain == nil || current == p.source.Roots() || p.trust.holds(current, c.chain)
}

// A judge remembers what it said of certificates, as long as it is asked about
// the same roots.
type judge struct {
	mu    sync.Mutex
	roots *x509.CertPool
	check func([]*x509.Certificate) error
}

func (j *judge) holds(roots *x509.CertPool, chain []*x509.Certificate) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.roots != roots {
		j.roots, j.check = roots, pki.Rechecker(roots)
	}
	return j.check(chain) == nil
}
