package grpcx

import (
	"context"
	"crypto/x509"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/meshd/meshd/internal/pki"
)

// Links are the open connections of one end whose peers showed certificates, so
// that those can be closed that a change of the trust anchors leaves behind. A
// nil one keeps none.
type Links struct {
	mu      sync.Mutex
	open    map[*link]struct{}
	roots   *x509.CertPool // of the last Recheck
	checked time.Time
}

// NewLinks makes an empty set.
func NewLinks() *Links { return &Links{open: map[*link]struct{}{}} }

// A link is one connection, by what its peer showed.
type link struct {
	raw   net.Conn
	chain []*x509.Certificate
	set   *Links
}

// add counts a connection after its handshake. One that was judged by trust
// anchors that have changed meanwhile is judged again.
func (l *Links) add(raw net.Conn, chain []*x509.Certificate) *link {
	if l == nil || len(chain) == 0 {
		return nil
	}
	k := &link{raw, chain, l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[k] = struct{}{}
	if time.Since(l.checked) < 2*handshakeTimeout && pki.Rechecker(l.roots)(chain) != nil {
		raw.Close()
	}
	return k
}

// gone says that the connection was closed.
func (k *link) gone() {
	if k != nil {
		k.set.mu.Lock()
		defer k.set.mu.Unlock()
		delete(k.set.open, k)
	}
}

// Recheck closes the connections whose peers' certificates do not hold under
// roots, and says how many those are. Whoever uses one sees it break.
func (l *Links) Recheck(roots *x509.CertPool) (cut int) {
	holds := pki.Rechecker(roots)
	for _, k := range l.begin(roots) {
		if holds(k.chain) != nil {
			cut++
			k.raw.Close()
		}
	}
	return cut
}

func (l *Links) begin(roots *x509.CertPool) (open []*link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.roots, l.checked = roots, time.Now()
	for k := range l.open {
		open = append(open, k)
	}
	return slices.Clip(open)
}

// linked is a connection of a client that leaves its set when it is closed.
type linked struct {
	net.Conn
	link *link
}

func (c linked) Close() error {
	c.link.gone()
	return c.Conn.Close()
}

// clientCredentials have gRPC's connections to servers counted.
type clientCredentials struct {
	credentials.TransportCredentials
	links *Links
}

func (c clientCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	if t, ok := info.(credentials.TLSInfo); ok {
		conn = linked{conn, c.links.add(raw, t.State.PeerCertificates)}
	}
	return conn, info, nil
}

func (c clientCredentials) Clone() credentials.TransportCredentials {
	return clientCredentials{c.TransportCredentials.Clone(), c.links}
}
