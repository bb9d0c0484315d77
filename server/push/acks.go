package push

import (
	"context"
	"strings"
	"sync"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// What an agent can make a server remember of its problems.
const (
	maxProblems    = 100
	maxProblemSize = 1024
)

// acks keeps what one agent acknowledged last.
type acks struct {
	wake chan struct{}

	mu         sync.Mutex
	version    uint64
	generation uint64 // of the authority
	problems   []string
}

func newAcks() *acks { return &acks{wake: make(chan struct{}, 1)} }

func (a *acks) take(ack *apiv1.Ack) {
	problems := ack.GetProblems()
	problems = problems[:min(len(problems), maxProblems)]
	for i, p := range problems {
		// A character cut in two could not be sent on.
		problems[i] = strings.ToValidUTF8(p[:min(len(p), maxProblemSize)], "")
	}
	a.mu.Lock()
	a.version, a.generation, a.problems = ack.GetVersion(), ack.GetAuthorityGeneration(), problems
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// wait blocks until the agent runs that version.
func (a *acks) wait(ctx context.Context, version uint64) error {
	for {
		a.mu.Lock()
		reached := a.version == version
		a.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-a.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (a *acks) status(node string) *apiv1.AgentStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &apiv1.AgentStatus{Node: node, Version: a.version, Problems: a.problems, AuthorityGeneration: a.generation}
}
