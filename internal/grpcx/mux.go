package grpcx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/internal/telemetry"
)

const (
	// handshakeTimeout bounds a handshake and the wait until the connection is
	// accepted.
	handshakeTimeout = 10 * time.Second
	// helloTimeout lets one packet be lost and sent again.
	helloTimeout = 3 * time.Second
	// maxStrangers bounds peers without a certificate and handshakes under way.
	// All hosts come back at once when a server returns, and none should be cut
	// off then: there is room for 2000, at the price of some 50 MiB.
	maxStrangers = 2048
	// maxPerSource is for hosts that share an address, as behind NAT.
	maxPerSource = 128
)

// A Mux takes connections from one listener, makes the TLS handshakes and
// hands each connection to the listener of its ALPN protocol.
type Mux struct {
	listener net.Listener
	tls      TLS
	config   *tls.Config
	log      *slog.Logger
	routes   map[string]*route
	gate     *netx.Gate
	turns    chan struct{} // has a value for each handshake that is being worked on
	refuse   func(alpn []string) error
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// NewMux prepares a Mux. Its listeners are made by Listen, then Start begins. Of
// connections refused only some are logged when there are many.
func NewMux(l net.Listener, t TLS, log *slog.Logger) *Mux {
	ctx, cancel := context.WithCancel(context.Background())
	m := &Mux{
		listener: l, tls: t, config: t.server(), log: telemetry.Limit(log, 20, 10*time.Second),
		routes: map[string]*route{}, ctx: ctx, cancel: cancel, refuse: func([]string) error { return nil },
		turns: make(chan struct{}, turnsPerCPU*runtime.GOMAXPROCS(0)),
		gate:  netx.NewGate(netx.GateLimits{Total: maxStrangers, PerSource: maxPerSource, Hello: helloTimeout}),
	}
	m.config.VerifyConnection = m.verify
	return m
}

// An Admit says why a client may not use a protocol. known is false for one
// that showed no certificate.
type Admit func(peer mesh.Identity, known bool) error

// Anybody admits every client, so that each service of the protocol decides
// for itself.
func Anybody(mesh.Identity, bool) error { return nil }

// Servers admits only members of the control plane.
func Servers(peer mesh.Identity, known bool) error {
	switch {
	case !known:
		return pki.ErrNoCertificate
	case peer.Kind != mesh.KindServer:
		return fmt.Errorf("the peer is %s, which is no server", peer)
	}
	return nil
}

// Listen gives the listener of one ALPN protocol; its connections are *Conn.
// Of the protocols that a client offers it gets the one listened to first. It
// must be called before Start.
func (m *Mux) Listen(alpn string, admit Admit) net.Listener {
	r := &route{admit: admit, addr: m.listener.Addr(), conns: make(chan net.Conn), done: make(chan struct{})}
	m.routes[alpn] = r
	m.config.NextProtos = append(m.config.NextProtos, alpn)
	return r
}

// Alias lets clients use another name for a protocol that is listened to.
func (m *Mux) Alias(alpn, protocol string) {
	m.routes[alpn] = m.routes[protocol]
	m.config.NextProtos = append(m.config.NextProtos, alpn)
}

// Refuse has why say, by the protocols that a client offers, why it is turned
// away at once; nil lets it go on.
func (m *Mux) Refuse(why func(alpn []string) error) { m.refuse = why }

// Start begins to accept.
func (m *Mux) Start() {
	m.running.Go(m.accept)
}

// Close ends the listener, its protocols' listeners and the handshakes under
// way, and waits for them. Connections that were handed over live on.
func (m *Mux) Close() error {
	m.cancel()
	err := m.listener.Close()
	for _, r := range m.routes {
		r.Close()
	}
	m.running.Wait()
	return err
}

func (m *Mux) accept() {
	pause := time.Duration(0)
	for {
		raw, err := m.listener.Accept()
		switch {
		case err == nil:
			pause = 0
			pass := m.gate.Enter(raw)
			m.running.Go(func() { m.handle(raw, pass) })
			continue
		case m.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		m.log.Error("accepting a connection failed", "address", m.listener.Addr(), "error", err, "retry_in", pause)
		m.wait(pause)
	}
}

func (m *Mux) wait(d time.Duration) {
	select {
	case <-m.ctx.Done():
	case <-time.After(d):
	}
}

func (m *Mux) handle(raw net.Conn, pass *netx.Pass) {
	ctx, cancel := context.WithTimeout(m.ctx, handshakeTimeout)
	defer cancel()
	conn, err := m.handshake(ctx, raw, pass)
	if err != nil {
		raw.Close()
		m.refused(raw, err)
		return
	}
	if err := m.routes[conn.ConnectionState().NegotiatedProtocol].take(ctx, conn); err != nil {
		conn.Close()
		m.refused(raw, err)
	}
}

// handshake has who shows a certificate leave the gate. Others stay in it for
// as long as they are connected: anybody can get that far.
func (m *Mux) handshake(ctx context.Context, raw net.Conn, pass *netx.Pass) (*Conn, error) {
	config := m.config.Clone()
	done := func() {}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (_ *tls.Config, err error) {
		pass.Heard()
		if err = m.refuse(hello.SupportedProtos); err == nil {
			done, err = m.turn(ctx)
		}
		return nil, err // nil: config it is
	}
	c := tls.Server(raw, config)
	err := c.HandshakeContext(ctx)
	done()
	if err == nil && len(c.ConnectionState().PeerCertificates) == 0 {
		return newConn(c, pass, nil), nil
	}
	if cut := pass.Leave(); cut != nil {
		err = cut
	}
	if err != nil {
		return nil, err
	}
	return newConn(c, nil, m.tls.Links), nil
}

const (
	// turnsPerCPU bounds the handshakes that are worked on at a time. When all
	// hosts come at once, those that are there must go on to be heard, and it is
	// better to let in some after others than to keep all of them waiting.
	turnsPerCPU = 8
	// turnTime is how long a peer that takes its time keeps others from theirs.
	turnTime = 200 * time.Millisecond
)

// turn waits until a handshake may be worked on; done is to be called after it.
func (m *Mux) turn(ctx context.Context) (done func(), err error) {
	select {
	case m.turns <- struct{}{}:
	case <-ctx.Done():
		return func() {}, fmt.Errorf("too many handshakes at once: %w", context.Cause(ctx))
	}
	leave := sync.OnceFunc(func() { <-m.turns })
	late := time.AfterFunc(turnTime, leave)
	return func() {
		late.Stop()
		leave()
	}, nil
}

// refused keeps out of the usual log those that only look whether the port is
// open.
func (m *Mux) refused(raw net.Conn, err error) {
	level := slog.LevelInfo
	if m.ctx.Err() != nil || errors.Is(err, io.EOF) {
		level = slog.LevelDebug
	}
	m.log.Log(m.ctx, level, "refused a connection", "peer", raw.RemoteAddr(), "error", err)
}

// verify runs at the end of a handshake, so that who is refused sees a TLS
// alert.
func (m *Mux) verify(state tls.ConnectionState) error {
	r := m.routes[state.NegotiatedProtocol]
	if r == nil {
		return errors.New("the peer chose no protocol (ALPN)")
	}
	if len(state.PeerCertificates) == 0 {
		return r.admit(mesh.Identity{}, false)
	}
	id, err := pki.VerifyPeer(state, m.tls.Roots(), m.tls.TrustDomain)
	if err != nil {
		return err
	}
	return r.admit(id, true)
}

// A route is a listener of what something else accepted.
type route struct {
	admit Admit
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (r *route) take(ctx context.Context, c net.Conn) error {
	select {
	case r.conns <- c:
		return nil
	case <-r.done:
		return net.ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("nobody accepted it: %w", ctx.Err())
	}
}

func (r *route) Accept() (net.Conn, error) {
	select {
	case c := <-r.conns:
		return c, nil
	case <-r.done:
		return nil, &net.OpError{Op: "accept", Net: r.addr.Network(), Addr: r.addr, Err: net.ErrClosed}
	}
}

func (r *route) Close() error {
	r.once.Do(func() { close(r.done) })
	return nil
}

func (r *route) Addr() net.Addr { return r.addr }
