package grpcx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
)

// preface begins every connection of HTTP/2, and no request of HTTP/1.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// A Fork parts the connections of a listener without TLS into those of HTTP/2,
// which carry gRPC, and those of HTTP/1, by their first bytes.
type Fork struct {
	listener   net.Listener
	grpc, http *route
	log        *slog.Logger
	ctx        context.Context
	cancel     context.CancelFunc
	running    sync.WaitGroup
}

// NewFork begins to accept from a listener.
func NewFork(l net.Listener, log *slog.Logger) *Fork {
	ctx, cancel := context.WithCancel(context.Background())
	side := func() *route {
		return &route{addr: l.Addr(), conns: make(chan net.Conn), done: make(chan struct{})}
	}
	f := &Fork{listener: l, grpc: side(), http: side(), log: log, ctx: ctx, cancel: cancel}
	f.running.Go(f.accept)
	return f
}

// GRPC is the listener of the connections of HTTP/2.
func (f *Fork) GRPC() net.Listener { return f.grpc }

// HTTP is the listener of the connections of HTTP/1.
func (f *Fork) HTTP() net.Listener { return f.http }

// Close ends the listeners and the connections that neither has yet, and waits
// for them.
func (f *Fork) Close() error {
	f.cancel()
	err := f.listener.Close()
	f.grpc.Close()
	f.http.Close()
	f.running.Wait()
	return err
}

func (f *Fork) accept() {
	for {
		c, err := f.listener.Accept()
		switch {
		case err == nil:
			f.running.Go(func() { f.part(c) })
		case f.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default:
			f.log.Error("accepting a connection failed", "address", f.listener.Addr(), "error", err)
			select {
			case <-f.ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// part hands one connection over, or closes it.
func (f *Fork) part(c net.Conn) {
	ctx, cancel := context.WithTimeout(f.ctx, handshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	begun, isHTTP2, err := peek(c)
	if stop() && err == nil {
		side := f.http
		if isHTTP2 {
			side = f.grpc
		}
		err = side.take(ctx, begun)
	} else if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		c.Close()
		f.log.Debug("closed a connection that began with no request", "address", f.listener.Addr(), "error", err)
	}
}

// peek reads until it is plain which protocol a connection speaks, and gives it
// with nothing read.
func peek(c net.Conn) (begun net.Conn, isHTTP2 bool, err error) {
	head := make([]byte, 0, len(preface))
	for len(head) < len(preface) && strings.HasPrefix(preface, string(head)) {
		n, err := c.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		if err != nil && n == 0 {
			return nil, false, fmt.Errorf("reading its first bytes: %w", err)
		}
	}
	return &begunConn{c, bytes.NewReader(head)}, string(head) == preface, nil
}

// A begunConn is a connection whose first bytes were read already.
type begunConn struct {
	net.Conn
	head *bytes.Reader
}

func (c *begunConn) Read(b []byte) (int, error) {
	if c.head.Len() > 0 {
		return c.head.Read(b)
	}
	return c.Conn.Read(b)
}

// PeerUID is the user of the process at the other end of a unix socket.
func (c *begunConn) PeerUID() (uint32, error) { return peerUID(c.Conn) }
