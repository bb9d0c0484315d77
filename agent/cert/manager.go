// Package cert holds a host's keys and certificates, one for itself and one for
// every service that it runs, and renews them in time.
package cert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

// A Signer has certificates made. It may block until a server can be reached.
type Signer interface {
	Sign(context.Context, *apiv1.SignRequest) (*apiv1.SignReply, error)
}

// Config of a Manager.
type Config struct {
	Dir         string // where keys and certificates are kept; only its owner may read it
	TrustDomain string
	Host        string // name
	Signer      Signer
	Logger      *slog.Logger
}

// A Manager gives the certificates of a host. It implements the proxy's source
// of identities.
type Manager struct {
	cfg   Config
	log   *slog.Logger
	certs atomic.Pointer[map[string]*tls.Certificate] // by SPIFFE ID
	news  chan struct{}                               // has a value after certs changed
	roots atomic.Pointer[anchors]

	mu         sync.Mutex
	wanted     map[string]*slot // by SPIFFE ID
	generation uint64           // of the authority: what is older is to be renewed
	wake       chan struct{}
	cancel     context.CancelFunc
	done       chan struct{}
}

// A slot is the place of one certificate that the host wants.
type slot struct {
	identity mesh.Identity
	cert     *tls.Certificate // nil as long as there is none
	// generation of the authority that signed cert.
	generation uint64
	due        time.Time // when to ask for a new one
	failures   int       // in a row
	problem    string    // why the last attempt failed
}

// Open reads what certificates the host has. Those of services are given from
// when SetServices names them.
func Open(cfg Config) (*Manager, error) {
	m := &Manager{cfg: cfg, log: cfg.Logger, wanted: map[string]*slot{}, wake: make(chan struct{}, 1), news: make(chan struct{}, 1), done: make(chan struct{})}
	if err := checkModes(cfg.Dir); err != nil {
		return nil, err
	}
	host := mesh.HostIdentity(cfg.TrustDomain, cfg.Host)
	cert, generation, err := load(m.path(host), host)
	if err != nil {
		return nil, fmt.Errorf("reading this host's own certificate: %w", err)
	}
	m.roots.Store(&anchors{all: x509.NewCertPool(), current: x509.NewCertPool()})
	m.wanted[host.String()] = m.newSlot(host, cert, generation)
	m.publish()
	return m, nil
}

// Start begins to obtain and renew certificates.
func (m *Manager) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go m.run(ctx)
}

// Stop ends what Start began. Certificates are given on.
func (m *Manager) Stop() {
	m.cancel()
	<-m.done
}

// Certificate gives the certificate of a SPIFFE ID, or nil if the host has none.
func (m *Manager) Certificate(id string) *tls.Certificate { return (*m.certs.Load())[id] }

// SetServices says which services' certificates this host needs. Those of
// others are deleted, with their keys.
func (m *Manager) SetServices(names []string) {
	m.mu.Lock()
	keep := map[string]*slot{}
	for _, identity := range append(m.services(names), mesh.HostIdentity(m.cfg.TrustDomain, m.cfg.Host)) {
		s := m.wanted[identity.String()]
		if s == nil {
			s = m.reopen(identity)
		}
		keep[identity.String()] = s
	}
	for id, s := range m.wanted {
		if keep[id] == nil {
			m.discard(s.identity)
		}
	}
	m.wanted = keep
	m.publish()
	m.mu.Unlock()
	m.poke()
}

// Adopt gives those of the services' certificates that are on disk from before.
// Nothing is asked for those that are not.
func (m *Manager) Adopt(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, identity := range m.services(names) {
		if s := m.reopen(identity); s.cert != nil {
			m.wanted[identity.String()] = s
		}
	}
	m.publish()
}

func (m *Manager) services(names []string) []mesh.Identity {
	var identities []mesh.Identity
	for _, name := range names {
		identities = append(identities, mesh.ServiceIdentity(m.cfg.TrustDomain, name))
	}
	return identities
}

// reopen takes over a certificate that is on disk from before.
func (m *Manager) reopen(identity mesh.Identity) *slot {
	cert, generation, err := load(m.path(identity), identity)
	if err != nil {
		m.log.Debug("no certificate to take over", "identity", identity.String(), "error", err)
	}
	return m.newSlot(identity, cert, generation)
}

func (m *Manager) newSlot(identity mesh.Identity, cert *tls.Certificate, generation uint64) *slot {
	s := &slot{identity: identity, cert: cert, generation: generation, due: time.Now()}
	if cert != nil {
		s.due = renewal(cert.Leaf)
		m.hasten(s)
	}
	return s
}

// renewal is two thirds into the certificate's life, a tenth sooner or later:
// hosts that joined together do not renew together.
func renewal(leaf *x509.Certificate) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	after := float64(life) * 2 / 3 * (0.9 + 0.2*rand.Float64())
	return leaf.NotBefore.Add(time.Duration(after))
}

// publish makes the present certificates the ones that are given.
func (m *Manager) publish() {
	certs := map[string]*tls.Certificate{}
	for id, s := range m.wanted {
		if s.cert != nil {
			certs[id] = s.cert
		}
	}
	if last := m.certs.Swap(&certs); last != nil && maps.Equal(*last, certs) {
		return
	}
	select {
	case m.news <- struct{}{}:
	default:
	}
}

// Changes has a value after certificates came, went or were renewed. Several
// changes may show as one. It is for one receiver.
func (m *Manager) Changes() <-chan struct{} { return m.news }

func (m *Manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// A State is how a certificate stands.
type State struct {
	Identity string
	NotAfter time.Time // zero when there is none
	Problem  string    // why it could not be had or renewed; empty when all is well
}

// States of all certificates that the host wants, ordered by identity.
func (m *Manager) States() []State {
	m.mu.Lock()
	defer m.mu.Unlock()
	var states []State
	for _, id := range slices.Sorted(maps.Keys(m.wanted)) {
		s := m.wanted[id]
		state := State{Identity: id, Problem: s.problem}
		if s.cert != nil {
			state.NotAfter = s.cert.Leaf.NotAfter
		}
		states = append(states, state)
	}
	return states
}
