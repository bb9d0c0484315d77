// Package dns answers for the names of a mesh, over UDP and TCP, from a zone
// that can be swapped at any moment.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshd/meshd/dns/zone"
	"github.com/meshd/meshd/internal/netx"
)

// Config is what a server needs.
type Config struct {
	Network netx.Network
	Listen  string // address and port, for UDP and TCP; port 0 chooses one
	Logger  *slog.Logger
	Metrics prometheus.Registerer // may be nil
	// Await is called for a service that the zone knows by name only. It sees to
	// it that more is known and returns when that is so, or when ctx ends. Nil
	// means not to wait.
	Await func(ctx context.Context, service string)
}

// A Server answers DNS queries.
type Server struct {
	config  Config
	metrics *metrics
	zone    atomic.Pointer[zone.Zone]

	udp        net.PacketConn
	tcp        net.Listener
	conns      connections
	answers    sync.Pool // of *answerer
	registered []prometheus.Collector
	waiting    chan struct{} // has a value for each query over UDP that waits
	stopping   chan struct{}
	stop       sync.Once
	running    sync.WaitGroup
}

// New makes a server that does not listen yet. Until the first Swap it answers
// SERVFAIL.
func New(config Config) *Server {
	s := &Server{config: config, metrics: newMetrics(), waiting: make(chan struct{}, maxWaiting), stopping: make(chan struct{})}
	s.answers.New = func() any { return &answerer{} }
	s.conns.gauge = s.metrics.connections
	return s
}

// Start listens and answers until Stop. An error says which address could not
// be had.
func (s *Server) Start(ctx context.Context) error {
	if err := s.listen(ctx); err != nil {
		return fmt.Errorf("listening for DNS on %s: %w", s.config.Listen, err)
	}
	if err := s.register(); err != nil {
		s.closeSockets()
		return fmt.Errorf("registering DNS metrics: %w", err)
	}
	for range min(runtime.GOMAXPROCS(0), maxReaders) {
		s.running.Go(s.serveUDP)
	}
	s.running.Go(s.serveTCP)
	s.config.Logger.Info("DNS is up", "address", s.Addr().String())
	return nil
}

func (s *Server) register() error {
	if s.config.Metrics == nil {
		return nil
	}
	for _, c := range s.metrics.all {
		if err := s.config.Metrics.Register(c); err != nil {
			return err
		}
		s.registered = append(s.registered, c)
	}
	return nil
}

// listen takes one port for both protocols. When any will do, the one that TCP
// got may be in use for UDP.
func (s *Server) listen(ctx context.Context) error {
	tries := 1
	if strings.HasSuffix(s.config.Listen, ":0") {
		tries = 10
	}
	var err error
	for range tries {
		if s.tcp, err = s.config.Network.Listen(ctx, "tcp", s.config.Listen); err != nil {
			return err
		}
		if s.udp, err = s.config.Network.ListenPacket(ctx, "udp", s.tcp.Addr().String()); err == nil {
			return nil
		}
		s.tcp.Close()
		s.tcp, s.udp = nil, nil
	}
	return err
}

// Addr is where the server listens; it is nil before Start.
func (s *Server) Addr() net.Addr {
	if s.tcp == nil {
		return nil
	}
	return s.tcp.Addr()
}

// Swap makes z what answers come from. Answers under way may still come from
// the zone before.
func (s *Server) Swap(z *zone.Zone) { s.zone.Store(z) }

// Stop closes everything and waits for it to end.
func (s *Server) Stop() {
	s.stop.Do(func() {
		close(s.stopping)
		s.closeSockets()
		s.conns.closeAll()
	})
	s.running.Wait()
	for _, c := range s.registered {
		s.config.Metrics.Unregister(c)
	}
}

func (s *Server) closeSockets() {
	if s.tcp != nil {
		s.tcp.Close()
	}
	if s.udp != nil {
		s.udp.Close()
	}
}

// Answer appends the answer to a query to dst and gives the result; it is dst as
// it was when the query is to have no answer. Over UDP (tcp false) it is not
// larger than the query allows.
func (s *Server) Answer(msg []byte, tcp bool, dst []byte) []byte {
	out, _ := s.attempt(msg, tcp, dst, false)
	return out
}

// attempt does what Answer does. unknown is the service to wait for before the
// next attempt, and then nothing was answered; it is empty unless may wait.
func (s *Server) attempt(msg []byte, tcp bool, dst []byte, mayWait bool) (out []byte, unknown string) {
	a := s.answers.Get().(*answerer)
	out, rcode, unknown := a.answer(s.zone.Load(), msg, tcp, dst)
	if unknown == "" || !mayWait || s.config.Await == nil {
		s.metrics.count(rcode, a.query.qtype)
		unknown = ""
	}
	s.answers.Put(a)
	return out, unknown
}

// pause waits a little after an error that may pass; it says whether to go on.
func (s *Server) pause(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	s.config.Logger.Warn("DNS socket fails; trying again", "error", err)
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stopping:
		return false
	}
}
