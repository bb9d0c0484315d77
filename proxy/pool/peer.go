package pool

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"github.com/meshd/meshd/proxy/mtls"
)

// A Peer is one target and what is open to it.
type Peer struct {
	pool   *Pool
	target Target

	mu   sync.Mutex
	gone bool
	idle map[string][]*Conn // by calling identity, the last one used at the end
}

// Target is what the peer was made for.
func (p *Peer) Target() Target { return p.target }

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
	if p.Application() {
		return p.dialPlain(ctx)
	}
	return p.dialTLS(ctx, identity)
}

func (p *Peer) dialPlain(ctx context.Context) (*Conn, error) {
	raw, err := p.pool.network.DialContext(ctx, "tcp", p.target.Address.String())
	if err != nil {
		return nil, fmt.Errorf("connecting to the application: %w", err)
	}
	return newConn(p, raw, nil, ""), nil
}

func (p *Peer) dialTLS(ctx context.Context, identity string) (*Conn, error) {
	certificate := p.pool.source.Certificate(identity)
	if certificate == nil {
		return nil, fmt.Errorf("%w %s", mtls.ErrNoCertificate, identity)
	}
	raw, err := p.pool.network.DialContext(ctx, "tcp", p.target.Address.String())
	if err != nil {
		return nil, fmt.Errorf("connecting to the agent: %w", err)
	}
	to := mtls.Destination{ServerName: p.target.ServerName, Identity: p.target.Identity, Protocol: p.target.Protocol}
	secure := tls.Client(raw, mtls.Client(p.pool.source, certificate, to))
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("securing the link to %s: %w", p.target.Address, err)
	}
	c := newConn(p, secure, certificate, identity)
	c.raw = raw
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
	defer p.mu.Unlock()
	p.gone = true
	for _, idle := range p.idle {
		for _, c := range idle {
			c.Close()
		}
	}
	clear(p.idle)
}

func (p *Peer) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for identity, idle := range p.idle {
		n := 0
		for n < len(idle) && (now.Sub(idle[n].idleSince) >= p.idleLimit() || !idle[n].fresh()) {
			idle[n].Close()
			n++
		}
		if n == len(idle) {
			delete(p.idle, identity)
		} else if n > 0 {
			p.idle[identity] = append(idle[:0:0], idle[n:]...)
		}
	}
}

func (p *Peer) idleLimit() time.Duration {
	if p.Application() {
		return appIdle
	}
	return linkIdle
}
