package grpcx

import (
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// What one connection without a certificate may make a server hold beyond what
// its peer may send. Its peer joins and then comes back with a certificate, or
// shows an access token, and may then send large messages.
const (
	strangerStreams = 4
	strangerHeaders = 4 << 10  // bytes
	strangerBuffer  = 4 << 10  // bytes, each way
	strangerWindow  = 64 << 10 // bytes, the least that gRPC knows
	strangerIdle    = 5 * time.Second
)

// NewStrangerServer makes a gRPC server for peers that showed no certificate,
// with messages of at most maxMessage bytes from those that are trusted.
// It spends little on each: few calls, small windows, short connections.
func NewStrangerServer(maxMessage int, opts ...grpc.ServerOption) *grpc.Server {
	return NewServer(append([]grpc.ServerOption{
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, MaxConnectionIdle: strangerIdle,
		}),
		grpc.MaxConcurrentStreams(strangerStreams),
		grpc.MaxHeaderListSize(strangerHeaders),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.ReadBufferSize(strangerBuffer),
		grpc.WriteBufferSize(strangerBuffer),
		// Fixed windows do not grow with how fast a peer sends.
		grpc.StaticStreamWindowSize(strangerWindow),
		grpc.StaticConnWindowSize(strangerWindow),
	}, opts...)...)
}

// Split parts the connections of a Mux's listener into those whose peer showed a
// certificate and those of strangers. Each side must be accepted from for the
// other to get on.
func Split(l net.Listener) (known, strangers net.Listener) {
	s := &strangerListener{addr: l.Addr(), conns: make(chan *Conn), done: make(chan struct{})}
	return &knownListener{l, s}, s
}

type knownListener struct {
	net.Listener
	strangers *strangerListener
}

func (l *knownListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn, ok := c.(*Conn)
		if !ok || conn.known {
			return c, nil
		}
		l.strangers.offer(conn)
	}
}

// A strangerListener gives what a knownListener came upon.
type strangerListener struct {
	addr  net.Addr
	conns chan *Conn
	done  chan struct{}
	once  sync.Once
}

func (l *strangerListener) offer(c *Conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		c.Close()
	}
}

func (l *strangerListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
	}
}

func (l *strangerListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *strangerListener) Addr() net.Addr { return l.addr }
