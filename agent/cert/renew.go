package cert

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

// How long to wait after a failure: doubled with each, and less by up to half.
const (
	minDelay = time.Second
	maxDelay = time.Minute
)

func delay(failures int) time.Duration {
	d := maxDelay
	if failures < 7 {
		d = min(maxDelay, minDelay<<max(failures-1, 0))
	}
	return d/2 + rand.N(d/2)
}

func (m *Manager) run(ctx context.Context) {
	defer close(m.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-timer.C:
		}
		m.renew(ctx)
		timer.Reset(m.untilDue())
	}
}

// untilDue is the time until something is to be asked for. The clock may jump,
// so it is looked at every hour at least.
func (m *Manager) untilDue() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	wait := time.Hour
	for _, s := range m.wanted {
		wait = min(wait, time.Until(s.due))
	}
	return max(wait, 0)
}

// renew asks for all certificates that are due, in one call.
func (m *Manager) renew(ctx context.Context) {
	orders := m.orders()
	if len(orders) == 0 {
		return
	}
	request := &apiv1.SignRequest{}
	for _, o := range orders {
		r := &apiv1.CertificateRequest{Csr: o.csr}
		if o.identity.Kind == mesh.KindService {
			r.Service = o.identity.Name
		}
		request.Requests = append(request.Requests, r)
	}
	reply, err := m.cfg.Signer.Sign(ctx, request)
	if ctx.Err() != nil {
		return
	}
	if err == nil && len(reply.GetCertificates()) != len(orders) {
		err = fmt.Errorf("the server answered %d of %d requests", len(reply.GetCertificates()), len(orders))
	}
	for i, o := range orders {
		if err != nil {
			m.failed(o, err)
			continue
		}
		m.receive(o, reply.GetCertificates()[i], reply.GetAuthorityGeneration())
	}
}

// orders makes requests for what is due.
func (m *Manager) orders() []order {
	m.mu.Lock()
	defer m.mu.Unlock()
	var orders []order
	for _, s := range m.wanted {
		if s.due.After(time.Now()) {
			continue
		}
		o, err := newOrder(s)
		if err != nil {
			m.log.Error("no certificate can be asked for", "identity", s.identity.String(), "error", err)
			s.due = time.Now().Add(maxDelay)
			continue
		}
		orders = append(orders, o)
	}
	return orders
}

// receive takes one certificate, if it is what was asked for.
func (m *Manager) receive(o order, c *apiv1.Certificate, generation uint64) {
	if c.GetError() != "" {
		m.failed(o, fmt.Errorf("the servers refused it: %s", c.GetError()))
		return
	}
	cert, err := m.fill(o, c.GetChain())
	if err != nil {
		m.failed(o, err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.wanted[o.identity.String()]
	if s == nil {
		return // no longer wanted
	}
	if err := save(m.path(o.identity), cert, generation); err != nil {
		m.log.Error("a certificate was not kept on disk; after a restart without servers an older one would be used", "identity", o.identity.String(), "error", err)
	}
	s.cert, s.generation, s.due, s.failures, s.problem = cert, generation, renewal(cert.Leaf), 0, ""
	if soonest := time.Now().Add(maxDelay); s.due.Before(soonest) {
		s.due = soonest // what a dying authority signs is due at once, again and again
	}
	m.hasten(s) // of a server that lags behind
	m.publish()
	m.log.Info("certificate obtained", "identity", o.identity.String(), "expires", cert.Leaf.NotAfter, "renewal", s.due)
}

// failed notes that a certificate could not be had. The old one is used on until
// it ends.
func (m *Manager) failed(o order, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.wanted[o.identity.String()]
	if s == nil {
		return
	}
	s.failures++
	s.due = time.Now().Add(delay(s.failures))
	s.problem = err.Error()
	attrs := []any{"identity", o.identity.String(), "error", err, "retry", s.due}
	if s.cert != nil {
		attrs = append(attrs, "expires", s.cert.Leaf.NotAfter)
	}
	m.log.Warn("a certificate could not be obtained", attrs...)
}
