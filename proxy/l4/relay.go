// Package l4 relays bytes between two connections without looking at them.
package l4

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// ErrIdle says that no byte went either way for too long.
var ErrIdle = errors.New("no byte in either direction for too long")

// A Result is what a relay moved and how it ended.
type Result struct {
	AToB, BToA int64 // bytes
	// Err is nil when both sides ended in good order.
	Err error
}

// Relay moves bytes both ways until both sides have ended, one has failed, or
// none has said anything for idle; zero means for ever. The end of one side is
// passed on while the other may still speak. Both connections are closed when
// it returns; closing one of them from outside ends it.
//
// Between two plain TCP connections the kernel moves the bytes.
func Relay(a, b net.Conn, idle time.Duration) Result {
	r := &relay{idle: idle}
	r.touch()
	var res Result
	var errAB, errBA error
	var other sync.WaitGroup
	other.Go(func() {
		res.BToA, errBA = r.oneWay(a, b)
		r.finish(errBA, a, b)
	})
	res.AToB, errAB = r.oneWay(b, a)
	r.finish(errAB, a, b)
	other.Wait()
	a.Close()
	b.Close()
	res.Err = r.err
	return res
}

// A relay is what the two directions share.
type relay struct {
	idle time.Duration
	last atomic.Int64 // when a byte was seen last, by the monotonic clock
	once sync.Once
	err  error // the first one: the rest follow from it
}

var epoch = time.Now()

func (r *relay) touch() { r.last.Store(int64(time.Since(epoch))) }

func (r *relay) silence() time.Duration { return time.Since(epoch) - time.Duration(r.last.Load()) }

// finish cuts both sides off when a direction failed; the other one must not go
// on speaking to nobody.
func (r *relay) finish(err error, a, b net.Conn) {
	if err == nil {
		return
	}
	r.once.Do(func() {
		r.err = err
		a.Close()
		b.Close()
	})
}

// oneWay copies until src ends, then ends dst for writing.
func (r *relay) oneWay(dst, src net.Conn) (n int64, err error) {
	step := r.buffered
	if to, from := tcp(dst), tcp(src); to != nil && from != nil {
		dst, src, step = to, from, r.spliced
	}
	n, err = r.copy(dst, src, step)
	if err != nil {
		return n, err
	}
	return n, closeWrite(dst)
}

// A step moves some bytes; it returns io.EOF at the end of src.
type step func(dst, src net.Conn) (int64, error)

func (r *relay) copy(dst, src net.Conn, step step) (total int64, err error) {
	for {
		if r.idle > 0 {
			// Looking several times in an idle period keeps the limit within a
			// quarter of what was asked for.
			src.SetReadDeadline(time.Now().Add(max(r.idle/4, time.Millisecond)))
		}
		n, err := step(dst, src)
		total += n
		if n > 0 {
			r.touch()
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return total, nil
		case r.idle > 0 && isReadTimeout(err):
			if r.silence() >= r.idle {
				return total, ErrIdle
			}
		default:
			return total, err
		}
	}
}

// isReadTimeout holds for our own deadline only: no write has one.
func isReadTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// bufferSize makes records of TLS leave several at a time.
const bufferSize = 64 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func (r *relay) buffered(dst, src net.Conn) (int64, error) {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for total := int64(0); ; {
		n, err := src.Read(buffer[:])
		if n > 0 {
			r.touch()
			if _, werr := dst.Write(buffer[:n]); werr != nil {
				return total, werr
			}
			total += int64(n)
		}
		if err != nil {
			return total, err
		}
		if r.idle > 0 {
			return total, nil // for a new deadline
		}
	}
}

// spliceSize bounds one step, so that slow streams show that they are alive.
const spliceSize = 256 << 10

func (r *relay) spliced(dst, src net.Conn) (int64, error) {
	limited := io.LimitedReader{R: src, N: spliceSize}
	n, err := dst.(*net.TCPConn).ReadFrom(&limited)
	if err == nil && n < spliceSize {
		err = io.EOF
	}
	return n, err
}

// tcp gives the connection that the kernel can splice, or nil.
func tcp(c net.Conn) *net.TCPConn {
	t, _ := c.(*net.TCPConn)
	return t
}

// closeWrite ends the stream towards the peer. What cannot be ended by halves is
// left to the close of the whole.
func closeWrite(c net.Conn) error {
	h, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	if err := h.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) && !isGone(err) {
		return err
	}
	return nil
}
