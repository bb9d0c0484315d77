package push

import (
	"sync"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// interest keeps which services one agent wants, as it said last.
type interest struct {
	wake chan struct{}

	mu     sync.Mutex
	wanted []string
	times  uint64 // that it was said
}

func newInterest() *interest { return &interest{wake: make(chan struct{}, 1)} }

func (i *interest) take(wanted *apiv1.Interest) {
	i.mu.Lock()
	i.wanted = wanted.GetServices()
	i.times++
	i.mu.Unlock()
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

func (i *interest) view(nodeID string, parts bool) view {
	i.mu.Lock()
	defer i.mu.Unlock()
	return view{nodeID: nodeID, parts: parts, wanted: i.wanted, interest: i.times}
}
