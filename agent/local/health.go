package local

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/agent/check"
	apiv1 "github.com/meshd/meshd/api/v1"
)

// A health runs the checks of all services. Its fields are guarded by the
// lock of its Local.
type health struct {
	local   *Local
	watches map[string]*watch // by id of the service
	closed  bool
	running sync.WaitGroup // checkers that are still to end
}

// A watch is the checks of one service.
type watch struct {
	declaration *apiv1.Declaration
	stops       []func()
	results     []*check.Result // in the order of the checks; nil before the first
}

// application is where this host's services listen.
var application = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// check makes one check of the service on a port.
func (l *Local) check(spec *apiv1.CheckSpec, port uint16, report func(check.Result)) (stop func()) {
	return check.Start(l.cfg.Network, netip.AddrPortFrom(application, port), spec, report).Stop
}

func newHealth(l *Local) *health {
	return &health{local: l, watches: map[string]*watch{}}
}

// follow checks these services and no others, and notes their health.
func (h *health) follow(services []*Service) {
	current := map[string]*watch{}
	for _, s := range services {
		id := s.Declaration.GetId()
		w := h.watches[id]
		if w == nil || !sameChecks(w.declaration, s.Declaration) {
			w = h.start(s.Declaration)
		}
		current[id] = w
		s.Health, s.Output = w.verdict()
	}
	for id, w := range h.watches {
		if current[id] != w {
			h.end(w)
		}
	}
	h.watches = current
}

func sameChecks(a, b *apiv1.Declaration) bool {
	return proto.Equal(&apiv1.Declaration{Port: a.GetPort(), Checks: a.GetChecks()}, &apiv1.Declaration{Port: b.GetPort(), Checks: b.GetChecks()})
}

func (h *health) start(d *apiv1.Declaration) *watch {
	w := &watch{declaration: d, results: make([]*check.Result, len(d.GetChecks()))}
	if h.closed {
		return w
	}
	for i, spec := range d.GetChecks() {
		w.stops = append(w.stops, h.local.startCheck(spec, uint16(d.GetPort()), func(r check.Result) { h.record(w, i, r) }))
	}
	return w
}

// record takes what a check found.
func (h *health) record(w *watch, i int, r check.Result) {
	h.local.mu.Lock()
	defer h.local.mu.Unlock()
	if h.watches[w.declaration.GetId()] != w {
		return // ended meanwhile
	}
	before, said := w.verdict()
	w.results[i] = &r
	after, output := w.verdict()
	if before == after && said == output {
		return
	}
	if before != after {
		h.local.log.Info("health of a service changed", "service", w.declaration.GetId(), "health", after, "checks", output)
	}
	h.local.refresh()
}

// verdict is critical as soon as one check fails, passing when all pass, and
// open before that is known.
func (w *watch) verdict() (apiv1.Health, string) {
	verdict := apiv1.Health_HEALTH_PASSING
	var outputs []string
	for i, r := range w.results {
		switch {
		case r == nil:
			if verdict == apiv1.Health_HEALTH_PASSING {
				verdict = apiv1.Health_HEALTH_UNSPECIFIED
			}
			continue
		case !r.Passing:
			verdict = apiv1.Health_HEALTH_CRITICAL
		}
		outputs = append(outputs, describe(w.declaration.GetChecks()[i])+": "+r.Output)
	}
	return verdict, strings.Join(outputs, "; ")
}

func describe(c *apiv1.CheckSpec) string {
	if c.GetTcp() != "" {
		return fmt.Sprintf("tcp %s", c.GetTcp())
	}
	return fmt.Sprintf("http %s", c.GetHttp())
}

// end stops a watch without waiting for it: a checker may be waiting for the
// lock to record what it found.
func (h *health) end(w *watch) {
	for _, stop := range w.stops {
		h.running.Go(stop)
	}
}

// stop ends all checks and waits for them.
func (h *health) stop() {
	h.local.mu.Lock()
	h.closed = true
	for _, w := range h.watches {
		h.end(w)
	}
	h.watches = map[string]*watch{}
	h.local.mu.Unlock()
	h.running.Wait()
}
