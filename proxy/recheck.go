package proxy

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/proxy/relay"
)

// Recheck closes the links whose other ends' certificates hold under no root
// that is trusted by now, whatever they carry, and says how many those are.
func (p *Proxy) Recheck() (cut int) {
	holds := pki.Rechecker(p.Identities.Roots())
	for _, m := range p.conns.proved() {
		if holds(m.chain) != nil {
			cut++
			relay.Abort(m.conn)
		}
	}
	return cut + p.pool.Recheck()
}

// prove notes what the other end of a link showed. Trust may have changed since
// it was judged, by trusted, and Recheck may have passed it by.
func (p *Proxy) prove(m *member, link *tls.Conn, trusted *x509.CertPool) error {
	chain := link.ConnectionState().PeerCertificates
	p.conns.setChain(m, chain)
	if now := p.Identities.Roots(); now != trusted {
		return pki.Rechecker(now)(chain)
	}
	return nil
}

func (g *group) setChain(m *member, chain []*x509.Certificate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.chain = chain
}

// proved are the links whose other ends have shown a certificate.
func (g *group) proved() (links []*member) {
	g.each(func(m *member) {
		if m.chain != nil {
			links = append(links, m)
		}
	})
	return links
}
