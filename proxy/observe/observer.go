// Package observe tells people what the proxy does: metrics, logs, and the codes
// of what can go wrong.
package observe

import (
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshd/meshd/internal/mesh"
)

// Direction is which side of a call this proxy is on.
type Direction string

const (
	Outbound Direction = "outbound" // the caller's
	Inbound  Direction = "inbound"  // the called service's
)

// An Observer keeps the metrics and the log of one proxy.
type Observer struct {
	log      *slog.Logger
	throttle throttle
	metrics  *metrics

	mu    sync.Mutex
	edges map[edgeKey]*Edge
}

type edgeKey struct {
	direction Direction
	from, to  string
}

// New registers the metrics.
func New(registerer prometheus.Registerer, log *slog.Logger) *Observer {
	return &Observer{log: log, metrics: newMetrics(registerer), edges: map[edgeKey]*Edge{}}
}

// Edge is where calls by one identity, a SPIFFE ID, to one service are counted.
// Looking it up takes a lock: it should be kept for as long as a connection.
func (o *Observer) Edge(d Direction, from, to string) *Edge {
	key := edgeKey{d, short(from), to}
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.edges[key]
	if e == nil {
		e = newEdge(o, key)
		o.edges[key] = e
	}
	return e
}

// ConnectionRefused counts a connection on which nothing was served, and logs it
// at a limited rate. Reason is a word for metrics, of a few.
func (o *Observer) ConnectionRefused(d Direction, reason, peer string, err error) {
	o.metrics.refused.WithLabelValues(string(d), reason).Inc()
	o.throttle.log(o.log, slog.LevelWarn, "connection refused", "reason", reason, "direction", string(d), "peer", peer, "error", err)
}

// ListenerMissing logs that a convenience is not there.
func (o *Observer) ListenerMissing(address, service string, err error) {
	o.throttle.log(o.log, slog.LevelInfo, "service cannot be called on this address as well", "address", address, "service", service, "error", err)
}

// short is an identity as people know it.
func short(id string) string {
	if i, err := mesh.ParseIdentity(id); err == nil {
		return i.Short()
	}
	return "unknown"
}
