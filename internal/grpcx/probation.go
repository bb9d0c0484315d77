package grpcx

import (
	"crypto/tls"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/meshd/meshd/internal/netx"
)

// What a peer that has proved nothing may do on one connection; the Mux bounds
// how many there are. It is enough to join a mesh, or to show an access token.
const (
	strangerBytes = 128 << 10 // sent by it
	strangerLife  = 30 * time.Second
)

var errTalkative = errors.New("the peer sent more than anybody may who has not authenticated")

// A probation holds a connection to what strangers may.
type probation struct {
	left atomic.Int64 // bytes
	life *time.Timer
	pass *netx.Pass // nil in no gate
}

func newProbation(c *tls.Conn, pass *netx.Pass) *probation {
	p := &probation{pass: pass, life: time.AfterFunc(strangerLife, func() { c.NetConn().Close() })}
	p.left.Store(strangerBytes)
	return p
}

// spend reports whether the peer could send so many bytes.
func (p *probation) spend(n int) bool { return p.left.Add(-int64(n)) >= 0 }

// end lets the connection live.
func (p *probation) end() {
	p.left.Store(math.MaxInt64)
	p.leave()
}

func (p *probation) leave() {
	p.life.Stop()
	if p.pass != nil {
		p.pass.Leave()
	}
}
