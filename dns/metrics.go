package dns

import (
	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// rcodes are those that answers have; types those that are counted apart. Both
// are few, so that no client decides how many series there are.
var (
	rcodes = []int{mdns.RcodeSuccess, mdns.RcodeFormatError, mdns.RcodeServerFailure, mdns.RcodeNameError, mdns.RcodeNotImplemented, mdns.RcodeRefused, mdns.RcodeBadVers}
	types  = []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypeSRV, mdns.TypePTR}
)

// metrics holds every counter ready, since looking one up costs more than an
// answer.
type metrics struct {
	queries     map[uint32]prometheus.Counter // by rcode and type
	dropped     prometheus.Counter
	connections prometheus.Gauge
	all         []prometheus.Collector
}

func newMetrics() *metrics {
	queries := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "meshd_dns_queries_total",
		Help: "DNS queries answered, by type and outcome.",
	}, []string{"type", "rcode"})
	m := &metrics{
		queries:     map[uint32]prometheus.Counter{},
		dropped:     prometheus.NewCounter(prometheus.CounterOpts{Name: "meshd_dns_dropped_total", Help: "DNS messages that got no answer: answers themselves, or cut off."}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "meshd_dns_connections", Help: "Open DNS connections over TCP."}),
	}
	m.all = []prometheus.Collector{queries, m.dropped, m.connections}
	for _, rcode := range rcodes {
		m.queries[metricKey(rcode, mdns.TypeNone)] = queries.WithLabelValues("other", rcodeName(rcode))
		for _, t := range types {
			m.queries[metricKey(rcode, t)] = queries.WithLabelValues(mdns.TypeToString[t], rcodeName(rcode))
		}
	}
	return m
}

func metricKey(rcode int, qtype uint16) uint32 { return uint32(rcode)<<16 | uint32(qtype) }

func rcodeName(rcode int) string {
	if rcode == mdns.RcodeBadVers { // the library has BADSIG, which shares the number
		return "BADVERS"
	}
	return mdns.RcodeToString[rcode]
}

// count notes an answer; rcode -1 stands for none.
func (m *metrics) count(rcode int, qtype uint16) {
	if rcode < 0 {
		m.dropped.Inc()
		return
	}
	c, ok := m.queries[metricKey(rcode, qtype)]
	if !ok {
		c = m.queries[metricKey(rcode, mdns.TypeNone)]
	}
	c.Inc()
}
