package agent

import (
	"maps"
	"slices"
	"time"

	"github.com/meshd/meshd/agent/slice"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/dns/zone"
)

// withdrawal is how long calls still reach a service that the servers have taken
// from the host: whoever looked it up just before must not be refused. Lookups
// after that ask for it again.
const withdrawal = 10 * time.Second

// A withdrawn is a service as it was when the servers took it back.
type withdrawn struct {
	service *apiv1.ServiceSlice
	until   time.Time
}

// withdraw notes what is no longer known, and forgets what is known again or was
// not used in time. The work's lock is held.
func (a *Agent) withdraw(known *slice.Slice) {
	w := &a.work
	for name, service := range w.now.slice.Services {
		if _, named := known.Index[name]; named && w.now.slice != known {
			w.withdrawn[name] = withdrawn{service, time.Now().Add(withdrawal)}
		}
	}
	if len(w.withdrawn) == 0 {
		return
	}
	a.sweep(false)
	wanted := a.interest.Wanted()
	for name, gone := range w.withdrawn {
		_, named := known.Index[name]
		_, used := slices.BinarySearch(wanted, name)
		if !named || !used && !time.Now().Before(gone.until) {
			delete(w.withdrawn, name)
		}
	}
}

// callable is what is known and what calls may still go by.
func (w *work) callable(known *slice.Slice) *slice.Slice {
	if len(w.withdrawn) == 0 {
		return known
	}
	all := *known
	all.Services, all.Index = maps.Clone(known.Services), maps.Clone(known.Index)
	for name, gone := range w.withdrawn {
		all.Services[name] = gone.service
		delete(all.Index, name)
	}
	return &all
}

// hide has lookups of what was withdrawn ask for it again.
func (w *work) hide(z *zone.Input) {
	for i := range z.Services {
		if _, gone := w.withdrawn[z.Services[i].Name]; gone {
			z.Services[i].Unknown, z.Services[i].Instances = true, nil
		}
	}
}
