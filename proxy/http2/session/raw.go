package session

import (
	"io"
	"net"
	"time"

	"github.com/meshd/meshd/proxy/http2/frame"
)

// Raw makes a connection of a stream whose head was sent and received: data both
// ways.
func Raw(st *Stream) net.Conn { return &raw{Stream: st} }

type raw struct {
	*Stream
	left []byte
}

func (r *raw) Read(p []byte) (n int, err error) {
	if len(r.left) == 0 {
		if r.left, err = r.Next(true); err != nil {
			return 0, err
		}
		if len(r.left) == 0 {
			return 0, io.EOF
		}
	}
	n = copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

func (r *raw) Write(p []byte) (n int, err error) {
	for n < len(p) {
		n += r.Gather(p[n:], false)
		if err := r.Flush(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// CloseWrite ends what is sent.
func (r *raw) CloseWrite() error { return r.End(nil) }

// SetLinger has Close be seen as a failure, as it is for TCP.
func (r *raw) SetLinger(int) error {
	r.Reset(frame.Cancel)
	return nil
}

// Close leaves the rest to whoever releases the stream.
func (r *raw) Close() error {
	r.End(nil)
	return nil
}

func (r *raw) LocalAddr() net.Addr  { return r.session.Conn.LocalAddr() }
func (r *raw) RemoteAddr() net.Addr { return r.session.Conn.RemoteAddr() }

func (r *raw) SetDeadline(t time.Time) error {
	r.SetReadDeadline(t)
	return r.SetWriteDeadline(t)
}
