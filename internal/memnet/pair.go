package memnet

import (
	"bytes"
	"net"
	"sync"
	"time"
)

const (
	// window is how many bytes may have arrived and not been read before the
	// sender has to wait.
	window = 64 << 10
	// maxFlight is how many may be on their way. It is generous because net/http
	// and others write with a mutex held: a writer that waits for a latency to
	// pass, with another goroutine waiting for the mutex, would stop the clock of
	// a bubble for good.
	maxFlight = 4 << 20
)

// A pair is a connection with its two ends. One lock and one condition serve
// both: what happens at one end is of interest at the other.
type pair struct {
	net  *Net
	mu   sync.Mutex
	cond sync.Cond
	ends [2]*conn
}

func newPair(from, to *Host, fromAddr, toAddr net.Addr) (client, server *conn) {
	p := &pair{net: from.net}
	p.cond.L = &p.mu
	client = &conn{pair: p, host: from, local: fromAddr, remote: toAddr}
	server = &conn{pair: p, host: to, local: toAddr, remote: fromAddr}
	client.peer, server.peer = server, client
	p.ends = [2]*conn{client, server}
	p.register()
	return client, server
}

// register makes faults reach the pair, and ends it at once if one of the hosts
// crashed while it was made.
func (p *pair) register() {
	p.net.mu.Lock()
	p.net.pairs[p] = struct{}{}
	down := [2]bool{p.ends[0].host.down, p.ends[1].host.down}
	p.net.mu.Unlock()
	for i, c := range p.ends {
		if down[i] {
			c.abort()
		}
	}
}

// forget is called with p.mu held when nothing can happen any more.
func (p *pair) forget() {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	delete(p.net.pairs, p)
}

func (p *pair) deliver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.ends {
		c.deliver()
	}
}

type signal uint8

const (
	data signal = iota
	fin
	rst
)

// A segment is on its way until due, and for as long as the link is cut.
type segment struct {
	signal signal
	bytes  []byte
	due    time.Time
}

// An inbox is the way to one end of a connection.
type inbox struct {
	flight   []segment
	inFlight int // bytes
	timer    *time.Timer
	arrived  bytes.Buffer
	eof      bool
	reset    bool
}

// room is how much more may be sent.
func (b *inbox) room() int { return min(window-b.arrived.Len(), maxFlight-b.inFlight) }

// send puts a segment on its way to c. c.mu is held.
func (c *conn) send(s signal, p []byte) {
	l := c.pair.net.link(c.peer.host, c.host)
	if l == (link{}) && len(c.in.flight) == 0 {
		c.arrive(segment{signal: s, bytes: p})
		return
	}
	c.in.flight = append(c.in.flight, segment{s, bytes.Clone(p), time.Now().Add(l.latency)})
	c.in.inFlight += len(p)
	c.deliver()
}

// deliver lets arrive at c, in order, what is due and not held up. c.mu is held.
func (c *conn) deliver() {
	for len(c.in.flight) > 0 && !c.pair.net.link(c.peer.host, c.host).cut {
		s := c.in.flight[0]
		if left := time.Until(s.due); left > 0 {
			c.deliverIn(left)
			return
		}
		c.in.flight = c.in.flight[1:]
		c.in.inFlight -= len(s.bytes)
		c.arrive(s)
	}
}

func (c *conn) deliverIn(d time.Duration) {
	if c.in.timer != nil {
		c.in.timer.Stop()
	}
	c.in.timer = time.AfterFunc(d, func() {
		c.pair.mu.Lock()
		defer c.pair.mu.Unlock()
		c.deliver()
	})
}

func (c *conn) arrive(s segment) {
	switch {
	case s.signal == rst:
		c.in.reset = true
	case c.closed && s.signal == data:
		// Nobody will read it; the sender is told, as a kernel would.
		c.peer.send(rst, nil)
	case s.signal == fin:
		c.in.eof = true
	case !c.in.reset:
		c.in.arrived.Write(s.bytes)
	}
	c.pair.cond.Broadcast()
}
