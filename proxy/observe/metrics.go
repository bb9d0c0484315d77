package observe

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests    *prometheus.CounterVec
	grpc        *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	streams     *prometheus.CounterVec
	retries     *prometheus.CounterVec
	exhausted   *prometheus.CounterVec
	connections *prometheus.GaugeVec
	bytes       *prometheus.CounterVec
	verdicts    *prometheus.CounterVec
	ejections   *prometheus.CounterVec
	panicking   *prometheus.GaugeVec
	refused     *prometheus.CounterVec
}

// seconds are the bounds of the duration's buckets.
var seconds = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		r.MustRegister(g)
		return g
	}
	m := &metrics{
		requests:    counter("meshd_requests_total", "Requests by how they ended; error is the code if meshd itself answered.", "direction", "src", "dst", "status_class", "error"),
		grpc:        counter("meshd_grpc_calls_total", "gRPC calls that were answered, by the number of their status.", "direction", "src", "dst", "status"),
		streams:     counter("meshd_streams_total", "Relayed TCP connections by how they ended; error is the code if they did not come about.", "direction", "src", "dst", "error"),
		retries:     counter("meshd_retries_total", "Tries after the first, by what went wrong before.", "dst", "reason"),
		exhausted:   counter("meshd_retry_budget_exhausted_total", "Retries not made because the budget was spent.", "dst"),
		connections: gauge("meshd_connections", "Open connections of callers.", "direction", "src", "dst"),
		bytes:       counter("meshd_bytes_total", "Bytes of bodies and streams: sent by callers, or received by them.", "direction", "src", "dst", "flow"),
		verdicts:    counter("meshd_authz_total", "Decisions by policy; audited ones are refusals that were only recorded.", "src", "dst", "verdict", "policy"),
		ejections:   counter("meshd_endpoint_ejections_total", "Times that an endpoint was left out because calls to it failed.", "dst"),
		panicking:   gauge("meshd_cluster_panic", "1 while so many endpoints fail that ejections are ignored.", "cluster"),
		refused:     counter("meshd_connections_refused_total", "Connections closed before anything was served on them, by why.", "direction", "reason"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "meshd_request_duration_seconds", Help: "From a request's header to its response's last byte.", Buckets: seconds,
		}, []string{"direction", "src", "dst"}),
	}
	r.MustRegister(m.duration)
	return m
}

// Retried counts a try after the first.
func (o *Observer) Retried(to, reason string) { o.metrics.retries.WithLabelValues(to, reason).Inc() }

// BudgetExhausted counts a retry that was not made for want of budget.
func (o *Observer) BudgetExhausted(to string) { o.metrics.exhausted.WithLabelValues(to).Inc() }

// Ejected counts an ejection and logs it.
func (o *Observer) Ejected(to, endpoint string) {
	o.metrics.ejections.WithLabelValues(to).Inc()
	o.log.Info("endpoint left out for a while, calls to it fail", "service", to, "endpoint", endpoint)
}

// Recovered logs that an endpoint is called again.
func (o *Observer) Recovered(to, endpoint string) {
	o.log.Info("endpoint is called again", "service", to, "endpoint", endpoint)
}

// Panic says whether ejections are ignored in a cluster.
func (o *Observer) Panic(cluster string, on bool) {
	if on {
		o.metrics.panicking.WithLabelValues(cluster).Set(1)
		o.log.Warn("too many endpoints fail, so all are called again", "cluster", cluster)
		return
	}
	o.metrics.panicking.WithLabelValues(cluster).Set(0)
	o.log.Info("enough endpoints do well again, the others are left out", "cluster", cluster)
}

// Endpoints has a gauge of ready and ejected endpoints of each service taken
// whenever metrics are read.
func Endpoints(r prometheus.Registerer, each func(yield func(service string, ready, ejected int))) {
	r.MustRegister(endpoints{prometheus.NewDesc("meshd_endpoints", "Endpoints of services called from here, by state.", []string{"dst", "state"}, nil), each})
}

type endpoints struct {
	desc *prometheus.Desc
	each func(yield func(service string, ready, ejected int))
}

func (e endpoints) Describe(ch chan<- *prometheus.Desc) { ch <- e.desc }

func (e endpoints) Collect(ch chan<- prometheus.Metric) {
	e.each(func(service string, ready, ejected int) {
		ch <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, float64(ready), service, "ready")
		ch <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, float64(ejected), service, "ejected")
	})
}
