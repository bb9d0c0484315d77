package grpcx

import (
	"crypto/sha256"
	"crypto/tls"
	"time"

	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/internal/pki"
)

// A Conn is a TLS connection whose peer was verified. It ends with the
// certificate that the peer showed: who stays must come back with a renewed one.
// A peer that showed none has little time and few bytes until Trust.
type Conn struct {
	*tls.Conn
	peer      mesh.Identity
	known     bool
	key       [sha256.Size]byte
	expiry    *time.Timer
	probation *probation // of a peer without a certificate
	link      *link      // of a peer with one
}

// newConn wraps a connection after its handshake, in which VerifyConnection has
// verified the peer's certificate. A pass is given up when the connection closes,
// or its peer is trusted.
func newConn(c *tls.Conn, pass *netx.Pass, links *Links) *Conn {
	conn := &Conn{Conn: c}
	certs := c.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		conn.probation = newProbation(c, pass)
		return conn
	}
	id, err := pki.LeafIdentity(certs[0])
	conn.peer, conn.known = id, err == nil
	conn.key = pki.Pin(certs[0])
	conn.link = links.add(c.NetConn(), certs)
	conn.expiry = time.AfterFunc(time.Until(certs[0].NotAfter), func() { c.NetConn().Close() })
	return conn
}

// Peer is who is at the other end; ok is false if it showed no certificate.
func (c *Conn) Peer() (id mesh.Identity, ok bool) { return c.peer, c.known }

// KeyHash is the SHA-256 of the public key that the peer has proved to hold; ok
// is false if it showed no certificate.
func (c *Conn) KeyHash() (hash [sha256.Size]byte, ok bool) { return c.key, c.known }

// Trust says that the peer, who showed no certificate, has authenticated by
// other means: the connection is no longer held to what strangers may.
func (c *Conn) Trust() {
	if c.probation != nil {
		c.probation.end()
	}
}

// Read reads what the peer sends, up to what it may.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.probation != nil && !c.probation.spend(n) {
		c.Close()
		return 0, errTalkative
	}
	return n, err
}

// Close ends the connection.
func (c *Conn) Close() error {
	if c.expiry != nil {
		c.expiry.Stop()
	}
	c.link.gone()
	if c.probation != nil {
		c.probation.leave()
	}
	return c.Conn.Close()
}
