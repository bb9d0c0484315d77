package push

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
)

// feed keeps the agent's slice up to date. At most one update is on its way;
// the next has everything since.
func (s *session) feed(hello *apiv1.Hello) error {
	at := cursor{version: hello.GetSliceVersion()}
	if hello.GetScoped() {
		at.held, at.limited = scope{}, true
		for _, name := range hello.GetDetails() {
			at.held[name] = true
		}
	}
	s.hub.publisher.reach(s.ctx, max(at.version, s.node.CreateIndex))
	for {
		messages, newer, next := s.next(hello.GetPartialSlices(), at)
		if messages == nil {
			at = next
			s.acks.settle(at.version)
			if err := s.awaitNews(newer); err != nil {
				return err
			}
			continue
		}
		s.outbox.fill(func(o *outbox) { o.slice = messages })
		messages = nil
		if err := s.acks.wait(s.ctx, next.version); err != nil {
			return err
		}
		at = next
	}
}

// next makes the update that follows from a cursor. It leaves nothing behind
// that holds on to the state while the agent takes its time.
func (s *session) next(parts bool, at cursor) (messages []grpcx.Encoded, newer <-chan struct{}, next cursor) {
	e, newer := s.hub.publisher.current()
	u, next := e.update(s.interest.view(s.node.Id, parts), at)
	if u == nil {
		return nil, newer, next
	}
	return u.messages(parts), newer, next
}

func (s *session) awaitNews(newer <-chan struct{}) error {
	select {
	case <-newer:
	case <-s.interest.wake:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	return nil
}

// maxWanted bounds what one host may want: beyond, its host is better given the
// whole catalogue.
const maxWanted = 4096

// checkInterest bounds what an agent can make a server remember.
func checkInterest(i *apiv1.Interest) error {
	if n := len(i.GetServices()); n > maxWanted {
		return status.Errorf(codes.InvalidArgument, "the host wants %d services, and %d is the most: let it join with a token that gives it the whole catalogue", n, maxWanted)
	}
	return nil
}
