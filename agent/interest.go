package agent

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/meshd/meshd/agent/compile"
	"github.com/meshd/meshd/agent/interest"
	"github.com/meshd/meshd/dns/zone"
	"github.com/meshd/meshd/proxy/plan"
)

// sweepInterval is how often it is looked which services are used. It may be
// long: services are kept for much longer, and whatever is missing is asked for
// at once.
const sweepInterval = 30 * time.Second

func (a *Agent) openInterest(context.Context) error {
	saved, err := interest.Load(interestPath(a.cfg.DataDir))
	if err != nil {
		a.log.Warn("what this host uses is learnt anew", "error", err)
	}
	a.interest = interest.New(a.cfg.UsedServices(), saved)
	a.onStop(a.saveInterest)
	return nil
}

func (a *Agent) saveInterest() {
	if err := a.interest.Save(interestPath(a.cfg.DataDir)); err != nil {
		a.log.Warn("after a restart this host will ask for less than it uses until it uses it", "error", err)
	}
}

// await has the servers tell more of a service that somebody asked for, and
// waits until that is at work or ctx ends.
func (a *Agent) await(ctx context.Context, service string) {
	if a.interest.Use(service) {
		a.log.Info("a service is used for the first time in a while", "service", service)
		a.control.SetInterest(a.interest.Wanted(), false)
	}
	if a.waitBuilt(ctx, func(b built) bool { return b.slice.Services[service] != nil }) != nil {
		a.log.Warn("the servers did not tell more of a service in time, so that it cannot be called yet", "service", service)
	}
}

// sweep looks which services are used. again says to tell the servers though
// nothing changed.
func (a *Agent) sweep(again bool) {
	a.interest.Use(slices.Collect(maps.Keys(a.proxy.Used()))...)
	a.interest.Sweep()
	a.control.SetInterest(a.interest.Wanted(), again)
}

// learn notes where the services of a plan are reached, and has the zone note
// which are looked up.
func (a *Agent) learn(p *plan.Plan, z *zone.Input) {
	a.interest.Settle(compile.Places(p))
	for i := range z.Services {
		z.Services[i].Used = a.interest.Flag(z.Services[i].Name)
	}
}
