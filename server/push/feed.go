package push

import (
	"context"

	"github.com/meshd/meshd/store/state"
)

// feed keeps the agent's slice up to date. At most one update is on its way;
// the next has everything since.
func (s *session) feed(version uint64) error {
	replica, at := s.hub.cfg.Replica, cursor{version: version}
	s.awaitIndex(version)
	for {
		var ws state.WatchSet
		u, next := s.hub.builder.update(replica.Local(), &ws, at)
		if u == nil {
			if err := ws.Wait(s.ctx); err != nil {
				return err
			}
			sleep(s.ctx, settle)
			continue
		}
		s.outbox.fill(func(o *outbox) { o.slice = u })
		if err := s.acks.wait(s.ctx, u.Version); err != nil {
			return err
		}
		at = next
	}
}

// awaitIndex gives this server a moment to come as far as the agent has come
// with another one.
func (s *session) awaitIndex(index uint64) {
	ctx, cancel := context.WithTimeout(s.ctx, catchUp)
	defer cancel()
	for {
		var ws state.WatchSet
		if s.hub.cfg.Replica.Local().Index(&ws) >= index || ws.Wait(ctx) != nil {
			return
		}
	}
}
