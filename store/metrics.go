package store

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are read from Raft and the state when they are asked for, except for
// times taken.
type metrics struct {
	store    *Store
	registry prometheus.Registerer
	apply    prometheus.Histogram
	gauges   []gauge
}

type gauge struct {
	desc *prometheus.Desc
	// value tells too whether there is one.
	value func(*Store) (float64, bool)
}

func registerMetrics(s *Store) (*metrics, error) {
	m := &metrics{store: s, registry: s.config.Metrics, gauges: gauges(), apply: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "meshd_raft_apply_seconds",
		Help:    "Time from proposing a change on this server, as the leader, until it was on a majority of disks and applied.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	})}
	if m.registry == nil {
		return m, nil
	}
	if err := m.registry.Register(m); err != nil {
		return nil, fmt.Errorf("registering the store's metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m != nil && m.registry != nil {
		m.registry.Unregister(m)
	}
}

func (m *metrics) applied(d time.Duration) { m.apply.Observe(d.Seconds()) }

func gauges() []gauge {
	always := func(f func(*Store) float64) func(*Store) (float64, bool) {
		return func(s *Store) (float64, bool) { return f(s), true }
	}
	g := func(name, help string, value func(*Store) (float64, bool)) gauge {
		return gauge{prometheus.NewDesc("meshd_raft_"+name, help, nil, nil), value}
	}
	return []gauge{
		g("is_leader", "1 on the leader of the control plane, else 0.", always(isLeader)),
		g("term", "Term of the newest election that this server knows of.", always(func(s *Store) float64 { return float64(s.raft.CurrentTerm()) })),
		g("last_index", "Index of the newest log entry on this server.", always(func(s *Store) float64 { return float64(s.raft.LastIndex()) })),
		g("commit_index", "Index up to which this server knows the log to be committed.", always(func(s *Store) float64 { return float64(s.raft.CommitIndex()) })),
		g("applied_index", "Index of the newest change in the state of this server.", always(func(s *Store) float64 { return float64(s.db.Read().Index(nil)) })),
		g("last_contact_seconds", "Time since this server last heard from the leader; absent before it first has, 0 on the leader.", lastContact),
	}
}

func isLeader(s *Store) float64 {
	if s.IsLeader() {
		return 1
	}
	return 0
}

func lastContact(s *Store) (float64, bool) {
	if s.IsLeader() {
		return 0, true
	}
	last := s.raft.LastContact()
	return time.Since(last).Seconds(), !last.IsZero()
}

// Describe and Collect make metrics a prometheus.Collector.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) {
	m.apply.Describe(descs)
	for _, g := range m.gauges {
		descs <- g.desc
	}
}

func (m *metrics) Collect(values chan<- prometheus.Metric) {
	m.apply.Collect(values)
	for _, g := range m.gauges {
		if v, ok := g.value(m.store); ok {
			values <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, v)
		}
	}
}
