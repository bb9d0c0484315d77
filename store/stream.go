package store

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A StreamLayer connects servers with each other. It must let in servers only:
// whoever speaks Raft can write anything.
type StreamLayer interface {
	net.Listener
	// Dial connects to a server by its address as the cluster knows it.
	Dial(address string, timeout time.Duration) (net.Conn, error)
}

// stream is a StreamLayer as Raft wants it. It knows every open connection, for
// Raft leaves them open when it stops.
type stream struct {
	layer   StreamLayer
	address address

	mu      sync.Mutex
	closed  bool
	conns   map[*conn]struct{}
	inbound sync.WaitGroup
}

// An address is what this server tells others to be reached under.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

func newStream(layer StreamLayer, addr string) *stream {
	return &stream{layer: layer, address: address(addr), conns: map[*conn]struct{}{}}
}

func (s *stream) Addr() net.Addr { return s.address }

func (s *stream) Accept() (net.Conn, error) {
	c, err := s.layer.Accept()
	if err != nil {
		return nil, err
	}
	return s.track(c, true)
}

func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	c, err := s.layer.Dial(string(address), timeout)
	if err != nil {
		return nil, err
	}
	return s.track(c, false)
}

func (s *stream) track(nc net.Conn, inbound bool) (net.Conn, error) {
	c := &conn{Conn: nc, stream: s, inbound: inbound}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.Join(net.ErrClosed, nc.Close())
	}
	s.conns[c] = struct{}{}
	if inbound {
		s.inbound.Add(1)
	}
	return c, nil
}

func (s *stream) Close() error {
	err := s.layer.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// abort ends all connections; their owners notice and close them.
func (s *stream) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.conns {
		c.Conn.Close()
	}
}

// wait returns when Raft has let go of all connections from other servers. Only
// then is it safe to close the log: a message that was being handled would find
// it closed, and Raft panics when it cannot store its term.
func (s *stream) wait() { s.inbound.Wait() }

type conn struct {
	net.Conn
	stream  *stream
	inbound bool
	once    sync.Once
}

// Read makes an end that was brought about here look like one that the other
// side has, which Raft does not take for an error.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, net.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

func (c *conn) Close() error {
	c.once.Do(func() {
		c.stream.mu.Lock()
		delete(c.stream.conns, c)
		c.stream.mu.Unlock()
		if c.inbound {
			c.stream.inbound.Done()
		}
	})
	return c.Conn.Close()
}
