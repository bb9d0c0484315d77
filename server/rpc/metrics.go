package rpc

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/status"
)

// metrics count calls. Their labels are names of methods that there are, codes
// and reasons: nothing that a caller chooses.
type metrics struct {
	calls    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	denials  *prometheus.CounterVec
	overRate *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meshd_api_calls_total", Help: "Calls of the API that this server has answered, by gRPC or as JSON.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "meshd_api_call_seconds", Help: "Time to answer a call of the API, streams excepted.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10},
		}, []string{"method"}),
		denials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meshd_api_refused_total", Help: "Calls of the API refused because of who made them: authentication failed, or no permission.",
		}, []string{"reason"}),
		overRate: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meshd_api_limited_total", Help: "Calls of the API refused because there were too many of their kind.",
		}, []string{"kind"}),
	}
	if registry != nil {
		registry.MustRegister(m.calls, m.seconds, m.denials, m.overRate)
	}
	return m
}

// called counts a call of a method that there is.
func (m *metrics) called(method string, err error) {
	m.calls.WithLabelValues(shortMethod(method), status.Code(err).String()).Inc()
}

func (m *metrics) took(method string, d time.Duration) {
	m.seconds.WithLabelValues(shortMethod(method)).Observe(d.Seconds())
}

func (m *metrics) refused(reason string) { m.denials.WithLabelValues(reason).Inc() }

func (m *metrics) limited(kind string) { m.overRate.WithLabelValues(kind).Inc() }

// shortMethod makes Admin/Apply of /meshd.v1.Admin/Apply.
func shortMethod(method string) string {
	return strings.TrimPrefix(method, "/meshd.v1.")
}
