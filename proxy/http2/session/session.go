// Package session runs an HTTP/2 connection: one goroutine reads and one writes,
// and streams are used by others much as connections are.
package session

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/meshd/meshd/proxy/http2/frame"
	"github.com/meshd/meshd/proxy/http2/message"
	"github.com/meshd/meshd/proxy/http2/mux"
)

const (
	// batch is how much is gathered before writers of streams have to wait, and
	// so the most that leaves in one write.
	batch = 64 << 10
	// owed is how much may have to be sent before nothing more is read: peers
	// that ask and never listen.
	owed = 256 << 10

	headTimeout     = 10 * time.Second // for a field block, once it has begun
	settingsTimeout = 10 * time.Second
	writeTimeout    = 30 * time.Second
	drainTimeout    = time.Second // until a peer must have heard that we drain
	lingerTime      = time.Second
)

// Config of a session.
type Config struct {
	mux.Config
	Conn net.Conn
	// Serve deals with a stream that the peer has opened, in a goroutine of its
	// own. The stream is over when it returns.
	Serve func(*Stream)
	// Idle is how long the connection may stay without streams, and Silence how
	// long without a byte before the peer is asked for a sign of life, which must
	// come within Answer; 0 is for ever.
	Idle, Silence, Answer time.Duration
	// Until is when the connection ends whatever happens; zero is never.
	Until time.Time
}

// A Session is one connection.
type Session struct {
	Config
	running sync.WaitGroup // streams that are served, and the writer

	mu       sync.Mutex
	mux      *mux.Conn
	err      error
	closed   bool
	began    time.Time
	idleAt   time.Time // when the last stream ended
	heardAt  time.Time
	headBy   time.Time // when a field block must be complete; zero without one
	armed    time.Time // the deadline of reading
	asked    bool      // for a sign of life
	drainEnd *time.Timer
	reserved int // streams that will be opened
	away     bool

	output  sync.Cond // of the writer: there is something to send
	roomy   sync.Cond // of the reader: there is not too much to send
	writing bool
	blocked []*Stream // that wait for a window, or room
	writer  message.Writer
	free    []*Stream
}

// New makes a session, which Run runs.
func New(c Config) *Session {
	now := time.Now()
	s := &Session{Config: c, mux: mux.New(c.Config), began: now, idleAt: now, heardAt: now}
	s.output.L, s.roomy.L = &s.mu, &s.mu
	return s
}

// Errors that connections end with.
var (
	// ErrClosed says that the session was ended here.
	ErrClosed = errors.New("the connection was closed")
	// ErrIdle says that nobody had use for the connection.
	ErrIdle = errors.New("the connection was idle")
	// ErrSilent says that the peer gave no sign of life.
	ErrSilent = errors.New("the peer gives no sign of life")
	errOld    = errors.New("the certificate by which the peer is known has ended")
)

// Run serves the connection until it ends and closes it. It returns once all its
// streams are over.
func (s *Session) Run() error {
	s.running.Go(s.write)
	err := s.read()
	s.end(err)
	s.running.Wait()
	s.linger()
	s.Conn.Close()
	return err
}

// Drain lets streams come to their end, and takes no more.
func (s *Session) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain()
}

func (s *Session) drain() {
	if s.closed || s.mux.Draining() {
		return
	}
	s.mux.Drain()
	if s.Client {
		s.away = true
		s.hurryIfOver()
		return
	}
	s.mux.Ping(drainPing)
	s.drainEnd = time.AfterFunc(drainTimeout, s.drained)
	s.kick()
}

var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n'}

// drained is called when the peer must have heard that we drain: what it opens
// now is not served.
func (s *Session) drained() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drainEnd.Stop()
	s.mux.Drain()
	s.away = true
	s.hurryIfOver()
	s.kick()
}

// over reports whether the connection is drained.
func (s *Session) over() bool {
	return s.away && s.mux.Open()+s.reserved == 0 && (s.mux.Draining() || s.Client)
}

// hurryIfOver has the reader notice that there is nothing left to do.
func (s *Session) hurryIfOver() {
	if s.over() {
		s.hurry()
	}
}

// hurry has the reader look what there is to do.
func (s *Session) hurry() {
	s.armed = past
	s.Conn.SetReadDeadline(past)
}

var past = time.Unix(1, 0)

// Close ends the connection at once.
func (s *Session) Close() {
	s.end(ErrClosed)
	s.Conn.Close()
}

// end ends all streams.
func (s *Session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed, s.err = true, err
	if s.drainEnd != nil {
		s.drainEnd.Stop()
	}
	s.mux.EachStream(func(m *mux.Stream) {
		if st, ok := m.Owner.(*Stream); ok {
			st.fail(&LostError{err})
		}
	})
	s.wakeBlocked()
	s.output.Broadcast()
	s.roomy.Broadcast()
}

// A LostError is what streams end with when their connection does.
type LostError struct{ Err error }

func (e *LostError) Error() string { return "the connection was lost: " + e.Err.Error() }
func (e *LostError) Unwrap() error { return e.Err }

// kick has the writer send what there is.
func (s *Session) kick() {
	if !s.writing && len(s.mux.Out()) > 0 {
		s.output.Signal()
	}
}

// write sends what streams have to say, all of it at once.
func (s *Session) write() {
	var out []byte
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.mux.Out()) == 0 && !s.closed {
			s.output.Wait()
		}
		if len(s.mux.Out()) == 0 {
			return
		}
		out = s.mux.Swap(out)
		s.writing = true
		s.wakeBlocked()
		s.roomy.Signal()
		s.mu.Unlock()
		s.Conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := s.Conn.Write(out)
		s.mu.Lock()
		s.writing = false
		if cap(out) > 2*batch {
			out = nil
		}
		if err != nil {
			s.broken(err)
			return
		}
	}
}

// broken notes that nothing can be sent any more, unless more is known.
func (s *Session) broken(err error) {
	if s.err == nil {
		s.err = err
	}
	s.roomy.Signal()
	s.hurry()
}

// linger gives the peer a moment to read what was sent last, before what it is
// still sending makes the kernel throw that away.
func (s *Session) linger() {
	h, ok := s.Conn.(interface{ CloseWrite() error })
	if !ok || s.mux.Err() == nil || h.CloseWrite() != nil {
		return
	}
	s.Conn.SetReadDeadline(time.Now().Add(lingerTime))
	var buf [4 << 10]byte
	for left := 256 << 10; left > 0; {
		n, err := s.Conn.Read(buf[:])
		if err != nil {
			return
		}
		left -= n
	}
}

// isTimeout reports whether a deadline of ours was met.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// errGoAway is what becomes of streams that the peer has not dealt with when it
// takes no more.
var errGoAway = &ResetError{Code: frame.RefusedStream, Untouched: true}
