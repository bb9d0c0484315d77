package http1

import (
	"github.com/meshd/meshd/proxy/http1/codec"
	"github.com/meshd/meshd/proxy/pool"
)

// An upstream is the connection to a peer that one try is made on.
type upstream struct {
	conn     *pool.Conn // nil if there is none
	in       input
	out      []byte // to the peer, borrowed
	writeErr error
	scanner  codec.Scanner
}

func (u *upstream) begin(c *pool.Conn) {
	u.close()
	*u = upstream{conn: c, in: input{conn: c}}
}

// write sends what was gathered. Once it has failed it does nothing.
func (u *upstream) write() error {
	if u.writeErr == nil && len(u.out) > 0 {
		_, u.writeErr = u.conn.Write(u.out)
	}
	u.out = u.out[:0]
	return u.writeErr
}

// release gives the connection back for other calls.
func (u *upstream) release() {
	c := u.conn
	u.conn = nil
	u.close()
	c.Release()
}

// close ends the connection, if there is one.
func (u *upstream) close() {
	if u.conn != nil {
		u.conn.Close()
		u.conn = nil
	}
	if u.out != nil {
		giveBack(u.out)
		u.out = nil
	}
	u.in.release()
}
