package pool

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/meshd/meshd/proxy/http2/mux"
	"github.com/meshd/meshd/proxy/http2/session"
)

// Links are asked for a sign of life, which must come soon: a host that is gone
// says nothing. Applications are on this one.
const (
	linkSilence = 10 * time.Second
	linkAnswer  = 3 * time.Second
)

// LinkStreams is for HTTP/2 between agents, which carries the calls of many.
func LinkStreams() mux.Config {
	c := mux.DefaultConfig
	c.Streams, c.StreamWindow, c.Window, c.Held = 1000, 256<<10, 4<<20, 32<<20
	c.TableSize = 16 << 10
	return c
}

// A Way is how a call gets to its peer: on a connection of its own, or on a
// stream of one that it shares.
type Way struct {
	Conn   *Conn
	Stream *session.Stream
	// Reused says that the connection has carried calls before.
	Reused bool
}

// A link is a connection that carries many calls at once.
type link struct {
	*Conn
	session *session.Session
}

// A flight is a connection that is being opened, for which others wait.
type flight struct {
	done chan struct{}
	err  error // why it did not come about, once it is done
}

// Reach gives a way to the peer for a calling identity, within a time limit; zero
// means none but the network's own. A fresh one has carried no call yet, and a
// plain one speaks HTTP/1.1 if the peer is an agent.
func (p *Peer) Reach(identity string, timeout time.Duration, fresh, plain bool) (Way, error) {
	if !p.target.Multiplexed || plain && !p.Application() {
		return p.reachPlain(identity, timeout, fresh)
	}
	identity = p.as(identity)
	if w, ok := p.shared(identity, fresh); ok {
		return w, nil
	}
	ctx := p.pool.ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	for {
		f, mine := p.takeOff(identity, fresh)
		if mine {
			w, err := p.dialWay(ctx, identity)
			p.land(identity, f, err)
			return w, err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return Way{}, fmt.Errorf("waiting for a connection that others have asked for: %w", ctx.Err())
		}
		if f.err != nil {
			return Way{}, f.err
		}
		if w, ok := p.shared(identity, fresh); ok {
			return w, nil
		}
	}
}

func (p *Peer) reachPlain(identity string, timeout time.Duration, fresh bool) (Way, error) {
	get := p.Get
	if fresh {
		get = p.Dial
	}
	c, err := get(identity, timeout)
	if err != nil {
		return Way{}, err
	}
	return Way{Conn: c, Reused: c.Reused}, nil
}

// shared opens a stream on a link there is, or takes an idle connection if the
// peer has no links.
func (p *Peer) shared(identity string, fresh bool) (Way, bool) {
	if fresh {
		return Way{}, false
	}
	p.mu.Lock()
	for _, l := range p.links[identity] {
		if !l.fresh() {
			continue // the sweeper lets it go
		}
		if st, _ := l.session.Open(); st != nil {
			used := l.session.Used()
			p.mu.Unlock()
			return Way{Stream: st, Reused: used}, true
		}
	}
	p.mu.Unlock()
	if c := p.take(identity); c != nil {
		return Way{Conn: c, Reused: true}, true
	}
	return Way{}, false
}

// takeOff says who opens a connection: many calls that come at once need only
// one. A fresh connection is opened whoever does so besides.
func (p *Peer) takeOff(identity string, fresh bool) (f *flight, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.flights[identity]; f != nil && !fresh && !p.plainly {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	if p.flights[identity] == nil {
		p.flights[identity] = f
	}
	return f, true
}

func (p *Peer) land(identity string, f *flight, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flights[identity] == f {
		delete(p.flights, identity)
	}
	f.err = err
	close(f.done)
}

// dialWay opens a connection, in the version of HTTP that the peer takes.
func (p *Peer) dialWay(ctx context.Context, identity string) (Way, error) {
	c, err := p.dial(ctx, identity, true)
	if err != nil {
		return Way{}, err
	}
	p.mu.Lock()
	p.plainly = !c.multiplexed
	p.mu.Unlock()
	if !c.multiplexed {
		return Way{Conn: c}, nil
	}
	st, _ := p.addLink(c).Open()
	if st == nil {
		return Way{}, ErrClosed
	}
	return Way{Stream: st}, nil
}

// addLink runs a link until it ends.
func (p *Peer) addLink(c *Conn) *session.Session {
	config := session.Config{Config: mux.DefaultConfig, Conn: c.Conn, Idle: linkIdle}
	if !p.Application() {
		config.Config, config.Silence, config.Answer = LinkStreams(), linkSilence, linkAnswer
	}
	config.Client = true
	l := &link{Conn: c, session: session.New(config)}
	p.mu.Lock()
	p.links[c.identity] = append(p.links[c.identity], l)
	gone := p.gone
	p.mu.Unlock()
	p.pool.running.Go(func() {
		l.session.Run()
		p.removeLink(l)
		c.Close()
	})
	if gone {
		defer l.session.Drain()
	}
	return l.session
}

func (p *Peer) removeLink(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := slices.DeleteFunc(p.links[l.identity], func(other *link) bool { return other == l })
	if p.links[l.identity] = left; len(left) == 0 {
		delete(p.links, l.identity)
	}
}

// drainLinks lets links go that are past use, once they carry nothing any more.
func (p *Peer) drainLinks(past func(*Conn) bool) {
	var draining []*link
	p.mu.Lock()
	for identity, links := range p.links {
		kept := links[:0]
		for _, l := range links {
			if past(l.Conn) {
				draining = append(draining, l)
			} else {
				kept = append(kept, l)
			}
		}
		clear(links[len(kept):])
		if p.links[identity] = kept; len(kept) == 0 {
			delete(p.links, identity)
		}
	}
	p.mu.Unlock()
	for _, l := range draining {
		l.session.Drain()
	}
}
