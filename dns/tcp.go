package dns

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxConnections is how many there are at the most. One more takes the
	// place of the one that has been quiet for longest, so that idle clients
	// cannot keep others out.
	maxConnections = 256
	// idleTimeout is how long a client may take for its next query, from first
	// to last byte.
	idleTimeout = 10 * time.Second
	// writeTimeout is how long a client may take to accept an answer.
	writeTimeout = 5 * time.Second
	// maxQuery is the longest query that is read, over UDP too.
	maxQuery = 4096
)

func (s *Server) serveTCP() {
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			if s.pause(err) {
				continue
			}
			return
		}
		c := s.conns.add(conn)
		if c == nil {
			return // Stop came first
		}
		s.running.Go(func() {
			defer s.conns.remove(c)
			s.serveConn(c)
		})
	}
}

// serveConn answers one query after another, in order, until the client has
// sent its last, is too slow, or sends what is none.
func (s *Server) serveConn(c *connection) {
	var length [2]byte
	var msg, out []byte
	for {
		if c.SetReadDeadline(time.Now().Add(idleTimeout)) != nil {
			return
		}
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(length[:]))
		if n < headerSize || n > maxQuery {
			s.metrics.count(-1, 0)
			return
		}
		if cap(msg) < n {
			msg = make([]byte, n, max(n, minUDP))
		}
		if _, err := io.ReadFull(c, msg[:n]); err != nil {
			return
		}
		s.conns.touch(c)
		var unknown string
		if out, unknown = s.attempt(msg[:n], true, append(out[:0], 0, 0), true); unknown != "" {
			s.await(unknown)
			out = s.Answer(msg[:n], true, append(out[:0], 0, 0))
		}
		if len(out) == 2 || c.send(out) != nil {
			return
		}
		if cap(out) > maxQuery {
			out = nil // not to be kept by every idle client
		}
	}
}

// send puts the length before an answer and writes both at once.
func (c *connection) send(out []byte) error {
	binary.BigEndian.PutUint16(out, uint16(len(out)-2))
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := c.Write(out)
	return err
}

// A connection is one of a TCP client.
type connection struct {
	net.Conn
	active uint64 // when it was last heard of, in the order of all connections
}

// connections are those that are open.
type connections struct {
	mu     sync.Mutex
	open   map[*connection]struct{}
	clock  uint64
	closed bool
	gauge  prometheus.Gauge
}

// add takes a connection in; nil says that the server has stopped.
func (cs *connections) add(conn net.Conn) *connection {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		conn.Close()
		return nil
	}
	if cs.open == nil {
		cs.open = map[*connection]struct{}{}
	}
	if len(cs.open) >= maxConnections {
		quietest := cs.quietest()
		quietest.Close()
		delete(cs.open, quietest)
	}
	cs.clock++
	c := &connection{conn, cs.clock}
	cs.open[c] = struct{}{}
	cs.gauge.Set(float64(len(cs.open)))
	return c
}

func (cs *connections) quietest() *connection {
	var quietest *connection
	for c := range cs.open {
		if quietest == nil || c.active < quietest.active {
			quietest = c
		}
	}
	return quietest
}

func (cs *connections) touch(c *connection) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.clock++
	c.active = cs.clock
}

func (cs *connections) remove(c *connection) {
	c.Close()
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.open, c)
	cs.gauge.Set(float64(len(cs.open)))
}

func (cs *connections) closeAll() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.closed = true
	for c := range cs.open {
		c.Close()
	}
}
