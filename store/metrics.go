package store

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshd/meshd/store/raftlog"
)

// metrics are read from Raft and the state when they are asked for, except for
// times taken.
type metrics struct {
	store    *Store
	registry prometheus.Registerer
	apply    prometheus.Histogram
	append   prometheus.Histogram
	sync     prometheus.Histogram
	entries  prometheus.Histogram
	gauges   []gauge
}

type gauge struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	// value tells too whether there is one.
	value func(*Store) (float64, bool)
}

func newMetrics(s *Store) *metrics {
	seconds := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "meshd_raft_" + name, Help: help,
			Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		})
	}
	return &metrics{
		store: s, registry: s.config.Metrics, gauges: append(gauges(), logGauges()...),
		apply:  seconds("apply_seconds", "Time from proposing a change on this server, as the leader, until it was on a majority of disks and applied."),
		append: seconds("log_append_seconds", "Time to append a batch of entries to the Raft log, until they were on disk."),
		sync:   seconds("log_sync_seconds", "Part of a write to the Raft log for writing its pages and waiting until the disk had them."),
		entries: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "meshd_raft_log_batch_entries", Help: "Entries that were appended to the Raft log at once.", Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256},
		}),
	}
}

func (m *metrics) register() error {
	if m.registry == nil {
		return nil
	}
	if err := m.registry.Register(m); err != nil {
		return fmt.Errorf("registering the store's metrics: %w", err)
	}
	return nil
}

func (m *metrics) unregister() {
	if m.registry != nil {
		m.registry.Unregister(m)
	}
}

func (m *metrics) applied(d time.Duration) { m.apply.Observe(d.Seconds()) }

func (m *metrics) wrote(w raftlog.Write) {
	m.sync.Observe(w.Sync.Seconds())
	if w.Entries > 0 {
		m.append.Observe(w.Took.Seconds())
		m.entries.Observe(float64(w.Entries))
	}
}

func always(f func(*Store) float64) func(*Store) (float64, bool) {
	return func(s *Store) (float64, bool) { return f(s), true }
}

func newGauge(name, help string, value func(*Store) (float64, bool)) gauge {
	return gauge{prometheus.NewDesc("meshd_raft_"+name, help, nil, nil), prometheus.GaugeValue, value}
}

func logGauges() []gauge {
	stat := func(f func(raftlog.Stats) float64) func(*Store) (float64, bool) {
		return always(func(s *Store) float64 { return f(s.log.Stats()) })
	}
	compactions := newGauge("log_compactions_total", "Times the Raft log was rewritten without its free space.", stat(func(s raftlog.Stats) float64 { return float64(s.Compactions) }))
	compactions.kind = prometheus.CounterValue
	return []gauge{
		compactions,
		newGauge("log_size_bytes", "Size of the Raft log's file.", stat(func(s raftlog.Stats) float64 { return float64(s.Size) })),
		newGauge("log_free_bytes", "Bytes of the Raft log's file that hold nothing.", stat(func(s raftlog.Stats) float64 { return float64(s.Free) })),
		newGauge("log_last_compaction_seconds", "Time that the newest rewriting of the Raft log took.", stat(func(s raftlog.Stats) float64 { return s.LastCompaction.Seconds() })),
		newGauge("log_last_compaction_pause_seconds", "Part of the newest rewriting of the Raft log for which no entry could be written.", stat(func(s raftlog.Stats) float64 { return s.LastPause.Seconds() })),
		problemGauge(DiskFull), problemGauge(DiskSlow), problemGauge(DiskFailed),
	}
}

// problemGauge is 1 while the server has that problem.
func problemGauge(kind ProblemKind) gauge {
	labels := prometheus.Labels{"problem": string(kind)}
	return gauge{
		prometheus.NewDesc("meshd_raft_problem", "1 while the disk hampers this server in that way, else 0.", nil, labels), prometheus.GaugeValue,
		always(func(s *Store) float64 {
			if p := s.Problem(); p != nil && p.Kind == kind {
				return 1
			}
			return 0
		}),
	}
}

func gauges() []gauge {
	g := newGauge
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

func (m *metrics) histograms() []prometheus.Histogram {
	return []prometheus.Histogram{m.apply, m.append, m.sync, m.entries}
}

// Describe and Collect make metrics a prometheus.Collector.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, h := range m.histograms() {
		h.Describe(descs)
	}
	for _, g := range m.gauges {
		descs <- g.desc
	}
}

func (m *metrics) Collect(values chan<- prometheus.Metric) {
	for _, h := range m.histograms() {
		h.Collect(values)
	}
	for _, g := range m.gauges {
		if v, ok := g.value(m.store); ok {
			values <- prometheus.MustNewConstMetric(g.desc, g.kind, v)
		}
	}
}
