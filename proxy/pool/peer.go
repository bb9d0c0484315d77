package pool

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/proxy/mtls"
)

// A Peer is one target and what is open to it.
type Peer struct {
	pool   *Pool
	target Target

	mu   sync.Mutex
	gone bool
	idle map[string][]*Conn // by calling identity, the last one used at the end
	// Of peers that can be called by HTTP/2:
	links   map[string][]*link // likewise, those in use, too
	flights map[string]*flight
	plainly bool // the last connection speaks HTTP/1.1
}

// Application reports whether the peer is an application on this host.
func (p *Peer) Application() bool { return p.target.Identity == "" }

// Get gives a connection that bears a calling identity: an idle one if there is
// one, else as Dial does.
func (p *Peer) Get(identity string, timeout time.Duration) (*Conn, error) {
	if c := p.take(p.as(identity)); c != nil {
		return c, nil
	}
	return p.Dial(identity, timeout)
}

// as leaves identities out that the peer is not shown.
func (p *Peer) as(identity string) string {
	if p.Application() {
		return ""
	}
	return identity
}

func (p *Peer) take(identity string) *Conn {
	for {
		c := p.last(identity)
		if c == nil {
			return nil
		}
		if time.Since(c.idleSince) < p.idleLimit() && c.fresh() && c.silent() {
			c.Reused = true
			return c
		}
		c.Close()
	}
}

func (p *Peer) last(identity string) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.idle[identity]
	if len(idle) == 0 {
		return nil
	}
	c := idle[len(idle)-1]
	idle[len(idle)-1] = nil
	p.idle[identity] = idle[:len(idle)-1]
	return c
}

// Dial opens a connection within a time limit; zero means none but the
// network's own.
func (p *Peer) Dial(identity string, timeout time.Duration) (*Conn, error) {
	ctx := p.pool.ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return p.dial(ctx, identity, false)
}

// dial opens a connection, multiplexed if it may be and the peer agrees.
func (p *Peer) dial(ctx context.Context, identity string, multiplexed bool) (*Conn, error) {
	if p.Application() {
		return p.dialPlain(ctx, multiplexed)
	}
	return p.dialTLS(ctx, identity, multiplexed)
}

func (p *Peer) dialPlain(ctx context.Context, multiplexed bool) (*Conn, error) {
	raw, err := p.pool.network.DialContext(ctx, "tcp", p.target.Address.String())
	if err != nil {
		return nil, fmt.Errorf("connecting to the application: %w", err)
	}
	return p.open(&Conn{Conn: raw, raw: raw, multiplexed: multiplexed})
}

func (p *Peer) dialTLS(ctx context.Context, identity string, multiplexed bool) (*Conn, error) {
	certificate := p.pool.source.Certificate(identity)
	if certificate == nil {
		return nil, fmt.Errorf("%w %s", mtls.ErrNoCertificate, identity)
	}
	raw, err := p.pool.network.DialContext(ctx, "tcp", p.target.Address.String())
	if err != nil {
		return nil, fmt.Errorf("connecting to the agent: %w", err)
	}
	trusted := p.pool.source.Roots()
	to := mtls.Destination{ServerName: p.target.ServerName, Identity: p.target.Identity, Protocols: []string{p.target.Protocol}}
	if multiplexed {
		to.Protocols = []string{mtls.HTTP2, p.target.Protocol}
	}
	secure := tls.Client(raw, mtls.Client(p.pool.source, certificate, to))
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("securing the link to %s: %w", p.target.Address, err)
	}
	state := secure.ConnectionState()
	chain := state.PeerCertificates
	c, err := p.open(&Conn{
		Conn: secure, raw: raw, identity: identity, certificate: certificate, chain: chain,
		multiplexed: state.NegotiatedProtocol == mtls.HTTP2,
	})
	if err == nil && p.pool.source.Roots() != trusted {
		if err = pki.Rechecker(p.pool.source.Roots())(chain); err != nil {
			c.Abort()
			return nil, fmt.Errorf("securing the link to %s: %w", p.target.Address, err)
		}
	}
	return c, err
}

// open begins the life of a connection.
func (p *Peer) open(c *Conn) (*Conn, error) {
	c.peer = p
	c.setAge()
	if err := p.pool.register(c); err != nil {
		c.raw.Close()
		return nil, err
	}
	return c, nil
}

// put takes a connection back, or says that it is not wanted.
func (p *Peer) put(c *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || len(p.idle[c.identity]) >= maxIdle {
		return false
	}
	p.idle[c.identity] = append(p.idle[c.identity], c)
	return true
}

// leave closes what is idle, now and from now on.
func (p *Peer) leave() {
	p.mu.Lock()
	p.gone = true
	p.mu.Unlock()
	p.closeIdle(func(*Conn) bool { return true })
	p.drainLinks(func(*Conn) bool { return true })
}

func (p *Peer) sweep(now time.Time) {
	p.closeIdle(func(c *Conn) bool { return now.Sub(c.idleSince) >= p.idleLimit() || !c.fresh() })
	p.drainLinks(func(c *Conn) bool { return !c.fresh() })
}

// closeIdle closes idle connections that are past use. It does so without the
// lock: it may take a while until a peer is told.
func (p *Peer) closeIdle(past func(*Conn) bool) {
	var closing []*Conn
	p.mu.Lock()
	for identity, idle := range p.idle {
		kept := slices.DeleteFunc(slices.Clone(idle), past)
		if len(kept) == len(idle) {
			continue
		}
		for _, c := range idle {
			if past(c) {
				closing = append(closing, c)
			}
		}
		if p.idle[identity] = kept; len(kept) == 0 {
			delete(p.idle, identity)
		}
	}
	p.mu.Unlock()
	for _, c := range closing {
		c.Close()
	}
}

func (p *Peer) idleLimit() time.Duration {
	if p.Application() {
		return appIdle
	}
	return linkIdle
}
