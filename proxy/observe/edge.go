package observe

import (
	"context"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// An Edge is the calls of one identity to one service, as one side sees them.
type Edge struct {
	observer *Observer
	edgeKey

	// Resolved when first needed, so that series are those of what happens.
	classes        [6]handle
	allowed        handle
	sent, received handle
	duration       prometheus.Observer
	connections    prometheus.Gauge
}

// A handle is a counter that was looked up.
type handle struct {
	atomic.Pointer[prometheus.Counter]
}

func (h *handle) get(lookup func() prometheus.Counter) prometheus.Counter {
	if c := h.Load(); c != nil {
		return *c
	}
	c := lookup()
	h.Store(&c)
	return c
}

func newEdge(o *Observer, key edgeKey) *Edge {
	d := string(key.direction)
	return &Edge{
		observer:    o,
		edgeKey:     key,
		duration:    o.metrics.duration.WithLabelValues(d, key.from, key.to),
		connections: o.metrics.connections.WithLabelValues(d, key.from, key.to),
	}
}

// Service is the called one.
func (e *Edge) Service() string { return e.to }

// Opened counts a connection as open until Closed.
func (e *Edge) Opened() { e.connections.Inc() }

// Closed ends what Opened began.
func (e *Edge) Closed() { e.connections.Dec() }

// Sent counts bytes from the caller.
func (e *Edge) Sent(n int64) {
	if n > 0 {
		e.sent.get(func() prometheus.Counter { return e.bytes("sent") }).Add(float64(n))
	}
}

// Received counts bytes to the caller.
func (e *Edge) Received(n int64) {
	if n > 0 {
		e.received.get(func() prometheus.Counter { return e.bytes("received") }).Add(float64(n))
	}
}

func (e *Edge) bytes(flow string) prometheus.Counter {
	return e.observer.metrics.bytes.WithLabelValues(string(e.direction), e.from, e.to, flow)
}

// Allowed counts a call that policy lets through.
func (e *Edge) Allowed() {
	e.allowed.get(func() prometheus.Counter { return e.verdict("allowed", "") }).Inc()
}

// Refused counts a call that policy refuses. What refused it is logged with the
// failed call.
func (e *Edge) Refused(policy string) { e.verdict("refused", policy).Inc() }

// Audited counts a call that would be refused but for audit mode, and logs it
// at a limited rate.
func (e *Edge) Audited(policy, rule string) {
	e.verdict("audited", policy).Inc()
	e.observer.throttle.log(e.observer.log, slog.LevelInfo, "call would be refused, but policy is in audit mode",
		"src", e.from, "dst", e.to, "policy", policy, "rule", rule)
}

func (e *Edge) verdict(verdict, policy string) prometheus.Counter {
	return e.observer.metrics.verdicts.WithLabelValues(e.from, e.to, verdict, policy)
}

// A Record is what there is to say of a call that is over.
type Record struct {
	Method, Path   []byte        // of a request
	Status         int           // 0 if there was no response
	GRPC           string        // status of a gRPC call that was answered
	Code           *Code         // nil unless meshd failed the call, here or at the other side
	Err            error         // what went wrong here
	Endpoint       string        // the last one tried
	Tries          int           // endpoints tried
	Took           time.Duration // from the request's header to the response's last byte
	Sent, Received int64         // bytes of the bodies
}

// Request counts a request that is over, and logs it: those that fail here at a
// limited rate, all at debug level.
func (e *Edge) Request(r *Record) {
	e.duration.Observe(r.Took.Seconds())
	e.Sent(r.Sent)
	e.Received(r.Received)
	e.count(r)
	e.logCall(r)
}

func (e *Edge) count(r *Record) {
	if r.GRPC != "" {
		e.observer.metrics.grpc.WithLabelValues(string(e.direction), e.from, e.to, r.GRPC).Inc()
	}
	class := r.Status / 100
	if class < 0 || class >= len(e.classes) {
		class = 0
	}
	if r.Code != nil {
		e.requests(class, r.Code.Name).Inc()
		return
	}
	e.classes[class].get(func() prometheus.Counter { return e.requests(class, "") }).Inc()
}

func (e *Edge) requests(class int, code string) prometheus.Counter {
	name := "none"
	if class > 0 {
		name = strconv.Itoa(class) + "xx"
	}
	return e.observer.metrics.requests.WithLabelValues(string(e.direction), e.from, e.to, name, code)
}

// Connection counts a relayed connection that is over, or did not come about,
// and logs it like a request. Its bytes were counted meanwhile.
func (e *Edge) Connection(r *Record) {
	e.observer.metrics.streams.WithLabelValues(string(e.direction), e.from, e.to, codeName(r.Code)).Inc()
	e.logCall(r)
}

func (e *Edge) logCall(r *Record) {
	o := e.observer
	if r.Err != nil && r.Code != Cancelled {
		o.throttle.log(o.log, slog.LevelWarn, "call failed", "code", codeName(r.Code), "direction", string(e.direction),
			"src", e.from, "dst", e.to, "endpoint", r.Endpoint, "tries", r.Tries, "error", r.Err)
	}
	if o.log.Enabled(context.Background(), slog.LevelDebug) {
		o.log.Debug("call", "direction", string(e.direction), "src", e.from, "dst", e.to,
			"method", string(r.Method), "path", string(r.Path), "status", r.Status, "code", codeName(r.Code),
			"endpoint", r.Endpoint, "tries", r.Tries, "took", r.Took, "sent", r.Sent, "received", r.Received)
	}
}

func codeName(c *Code) string {
	if c == nil {
		return ""
	}
	return c.Name
}
