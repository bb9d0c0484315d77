package push

import (
	"context"
	"sync"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
)

// An outbox holds what waits to be sent to one agent. There is one place for
// each kind of message, and a newer one of a kind replaces an older, so that an
// agent that does not read costs no more than that.
type outbox struct {
	wake chan struct{}

	mu      sync.Mutex
	welcome *apiv1.Welcome
	beat    bool
	result  *apiv1.RegistrationsResult
	move    *apiv1.Move
	slice   []grpcx.Encoded // messages of one update
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// fill changes what waits and wakes the sender.
func (o *outbox) fill(f func(*outbox)) {
	o.mu.Lock()
	f(o)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take gives the most urgent message, nil when none waits. A heartbeat goes
// before a slice, which may be long.
func (o *outbox) take() any {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := &apiv1.ServerMessage{}
	switch {
	case o.welcome != nil:
		m.Message, o.welcome = &apiv1.ServerMessage_Welcome{Welcome: o.welcome}, nil
	case o.beat:
		m.Message, o.beat = &apiv1.ServerMessage_Heartbeat{Heartbeat: &apiv1.Heartbeat{TimeUnixNano: time.Now().UnixNano()}}, false
	case o.result != nil:
		m.Message, o.result = &apiv1.ServerMessage_Registrations{Registrations: o.result}, nil
	case o.move != nil:
		m.Message, o.move = &apiv1.ServerMessage_Move{Move: o.move}, nil
	case len(o.slice) > 0:
		next := o.slice[0]
		o.slice[0], o.slice = nil, o.slice[1:]
		return next
	default:
		return nil
	}
	return m
}

// send sends all that comes until ctx ends or send fails.
func (o *outbox) send(ctx context.Context, send func(message any) error) error {
	for {
		for m := o.take(); m != nil; m = o.take() {
			if err := send(m); err != nil {
				return err
			}
		}
		select {
		case <-o.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
