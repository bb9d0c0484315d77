package proxy

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// acceptPause is how long to wait when no connection can be taken, as when all
// file descriptors are used up.
const acceptPause = 50 * time.Millisecond

// A listener hands connections to somebody until it is closed.
type listener struct {
	net.Listener
	take    func(net.Conn)
	used    atomic.Bool // since it was last asked
	closing chan struct{}
	running sync.WaitGroup
}

func newListener(ln net.Listener, take func(net.Conn)) *listener {
	return &listener{Listener: ln, take: take, closing: make(chan struct{})}
}

func (l *listener) start() { l.running.Go(l.run) }

func (l *listener) run() {
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			l.used.Store(true)
			l.take(c)
		case errors.Is(err, net.ErrClosed) || !l.pause():
			return
		}
	}
}

// pause reports whether it is worth to go on after an error.
func (l *listener) pause() bool {
	t := time.NewTimer(acceptPause)
	defer t.Stop()
	select {
	case <-l.closing:
		return false
	case <-t.C:
		return true
	}
}

// close takes no more connections.
func (l *listener) close() {
	close(l.closing)
	l.Close()
	l.running.Wait()
}
