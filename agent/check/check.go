// Package check finds out whether a service of this host is healthy, by asking
// it again and again.
package check

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net/netip"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/netx"
)

// A Result is what a check says of its service.
type Result struct {
	Passing bool
	// Output is for people: at most 4 KiB, of which the service may have written
	// any part.
	Output string
}

// failuresToCritical is how many failures in a row turn a passing check: one
// may be chance. A check's first result counts as it is, and so does a success.
const failuresToCritical = 2

// A Checker makes one check until it is stopped.
type Checker struct {
	spec   *apiv1.CheckSpec
	probe  probe
	report func(Result)
	cancel context.CancelFunc
	done   chan struct{}
}

// A probe asks once; its output is what it saw.
type probe func(context.Context) (output string, err error)

// Start begins to check the service that listens on that address, which is
// where a check goes that names no other. report is called from one goroutine,
// with the first result and then whenever the result or its output is another
// than before.
func Start(network netx.Network, service netip.AddrPort, spec *apiv1.CheckSpec, report func(Result)) *Checker {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Checker{spec: spec, probe: newProbe(network, service, spec), report: report, cancel: cancel, done: make(chan struct{})}
	go c.run(ctx)
	return c
}

// Stop ends the check and waits for it. report must not be waiting for the
// caller of Stop.
func (c *Checker) Stop() {
	c.cancel()
	<-c.done
}

func (c *Checker) run(ctx context.Context) {
	defer close(c.done)
	interval := cmp.Or(c.spec.GetInterval().AsDuration(), mesh.DefaultCheckInterval)
	// The first look is at once, so that a service is known soon; the pace from
	// then on is shifted, so that the checks of a host do not all fall together.
	next := time.NewTimer(0)
	defer next.Stop()
	shift := rand.N(interval)
	var v verdict
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		output, err := c.ask(ctx)
		if ctx.Err() != nil {
			return // what was found may be the work of Stop
		}
		if result, changed := v.take(output, err); changed {
			c.report(result)
		}
		next.Reset(interval + shift)
		shift = 0
	}
}

func (c *Checker) ask(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.spec.GetTimeout().AsDuration(), mesh.DefaultCheckTimeout))
	defer cancel()
	return c.probe(ctx)
}

// A verdict keeps single failures from counting.
type verdict struct {
	known    bool
	last     Result
	failures int // in a row
}

func (v *verdict) take(output string, err error) (r Result, changed bool) {
	r = Result{Passing: err == nil, Output: output}
	if err != nil {
		r.Output = err.Error()
		v.failures++
		if v.known && v.last.Passing && v.failures < failuresToCritical {
			return v.last, false
		}
	} else {
		v.failures = 0
	}
	changed = !v.known || r != v.last
	v.known, v.last = true, r
	return r, changed
}
