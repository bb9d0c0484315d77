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
	any        bool // something was
	version    uint64
	settled    uint64 // nothing that the agent has not acknowledged concerns it up to here
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
	a.any, a.version, a.generation, a.problems = true, ack.GetVersion(), ack.GetAuthorityGeneration(), problems
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
		reached := a.any && a.version == version
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

// settle notes that up to a version there is nothing more for the agent to know.
func (a *acks) settle(version uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settled = version
}

func (a *acks) status(node string) *apiv1.AgentStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &apiv1.AgentStatus{Node: node, Version: max(a.version, a.settled), Problems: a.problems, AuthorityGeneration: a.generation}
}
