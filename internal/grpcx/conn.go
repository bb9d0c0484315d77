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
type Conn struct {
	*tls.Conn
	peer   mesh.Identity
	known  bool
	key    [sha256.Size]byte
	expiry *time.Timer
	pass   *netx.Pass // of a peer without a certificate
	link   *link      // of a peer with one
}

// newConn wraps a connection after its handshake, in which VerifyConnection has
// verified the peer's certificate. A pass is given up when it closes.
func newConn(c *tls.Conn, pass *netx.Pass, links *Links) *Conn {
	conn := &Conn{Conn: c, pass: pass}
	certs := c.ConnectionState().PeerCertificates
	if len(certs) == 0 {
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

// Close ends the connection.
func (c *Conn) Close() error {
	if c.expiry != nil {
		c.expiry.Stop()
	}
	c.link.gone()
	if c.pass != nil {
		c.pass.Leave()
	}
	return c.Conn.Close()
}
