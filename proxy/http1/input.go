package http1

import (
	"errors"
	"io"
	"net"
)

var errFull = errors.New("no room is left in the buffer")

// An input is what has arrived on a connection and was not yet taken. A head
// can be kept in front of it, so that it stays where it is.
type input struct {
	conn net.Conn
	buf  []byte
	kept int // bytes in front that stay
	r, w int // of what was not taken
}

// bytes are those not yet taken. They are valid until the next fill.
func (i *input) bytes() []byte { return i.buf[i.r:i.w] }

func (i *input) empty() bool { return i.r == i.w }

func (i *input) take(n int) { i.r += n }

// keep takes a head of n bytes, the last of which are returned, and has it stay
// until forget.
func (i *input) keep(n, head int) []byte {
	if len(i.buf)-i.r-n < bodyRoom {
		i.compact()
	}
	if len(i.buf)-i.r-n < bodyRoom {
		i.grow()
	}
	i.r += n
	i.kept = i.r
	return i.buf[i.r-head : i.r]
}

// forget lets go of what was kept.
func (i *input) forget() { i.kept = 0 }

// fill waits for bytes and puts them behind the others.
func (i *input) fill() error {
	if i.buf == nil {
		i.buf = borrow()[:smallBuffer]
	}
	if i.empty() || i.w == len(i.buf) {
		i.compact()
	}
	if i.w == len(i.buf) {
		return errFull
	}
	n, err := i.conn.Read(i.buf[i.w:])
	i.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// compact moves bytes to the front.
func (i *input) compact() {
	if i.r > i.kept {
		i.w = i.kept + copy(i.buf[i.kept:], i.buf[i.r:i.w])
		i.r = i.kept
	}
}

// grow makes room for a large head. Nothing may be kept.
func (i *input) grow() {
	if len(i.buf) >= largeBuffer {
		return
	}
	large := make([]byte, largeBuffer)
	n := copy(large, i.bytes())
	giveBack(i.buf)
	i.buf, i.r, i.w = large, 0, n
}

// shrink gives a large buffer back, once there is nothing in it.
func (i *input) shrink() {
	if len(i.buf) > smallBuffer {
		i.release()
	}
}

// release gives the buffer back.
func (i *input) release() {
	if i.buf != nil {
		giveBack(i.buf)
	}
	*i = input{conn: i.conn}
}
