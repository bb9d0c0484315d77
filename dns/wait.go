package dns

import (
	"bytes"
	"context"
	"time"
)

const (
	// patience is how long a query may wait for its service to be known: well
	// below the time after which resolvers ask again.
	patience = 800 * time.Millisecond
	// maxWaiting bounds the queries over UDP that wait. The others are answered
	// by what is known.
	maxWaiting = 256
)

// await returns when the service is known, patience is at its end, or the server
// stops.
func (s *Server) await(service string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	known := make(chan struct{})
	s.running.Go(func() {
		defer close(known)
		s.config.Await(ctx, service)
	})
	select {
	case <-known:
	case <-s.stopping:
	}
}

// later answers a query over UDP once its service is known. ok is false when too
// many wait already.
func (s *Server) later(msg []byte, service string, send func([]byte)) (ok bool) {
	select {
	case s.waiting <- struct{}{}:
	default:
		return false
	}
	msg = bytes.Clone(msg)
	s.running.Go(func() {
		defer func() { <-s.waiting }()
		s.await(service)
		if out := s.Answer(msg, false, nil); len(out) > 0 {
			send(out)
		}
	})
	return true
}
