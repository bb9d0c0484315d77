package peers

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/jointoken"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/internal/pki"
)

// A fleetAgent is one simulated agent.
type fleetAgent struct {
	fleet     *Fleet
	number    int
	server    string
	instances []*apiv1.Instance
	reply     *apiv1.JoinReply
	key       *ecdsa.PrivateKey
	conn      *grpc.ClientConn
	cancel    context.CancelFunc
	running   sync.WaitGroup

	last string // that it told its fleet of; the fleet's lock guards it

	mu       sync.Mutex // of sending
	stream   grpc.BidiStreamingClient[apiv1.AgentMessage, apiv1.ServerMessage]
	sequence uint64
	version  string // of the first instance
	acked    uint64 // of the slice, for the next stream
}

// A hostNetwork is the machine's, seen from one of its addresses.
type hostNetwork struct {
	netx.System
	source net.IP
}

func (n hostNetwork) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: n.source}}
	return d.DialContext(ctx, network, address)
}

func (a *fleetAgent) network() netx.Network { return hostNetwork{source: source(a.number)} }

// join is repeated when there are too many at a time.
func (a *fleetAgent) join(ctx context.Context, text string) error {
	token, err := jointoken.Parse(text)
	if err != nil {
		return err
	}
	if a.key, err = pki.NewKey(); err != nil {
		return err
	}
	csr, err := pki.NewCSR(a.key)
	if err != nil {
		return err
	}
	return until(ctx, func(ctx context.Context) error {
		conn, err := grpcx.DialPinned(a.network(), a.server, token.TrustDomain, token.Pin)
		if err != nil {
			return err
		}
		defer conn.Close()
		a.reply, err = apiv1.NewEnrollClient(conn).Join(ctx, &apiv1.JoinRequest{
			TokenId: token.ID, Secret: token.Secret[:], Name: fmt.Sprint("vm", a.number), Csr: csr, Version: "bench",
			Address: source(a.number).String(), InboundPort: 7443,
		})
		return err
	})
}

// connect is repeated, as an agent does it, when a server is too busy or does not
// know the host yet.
func (a *fleetAgent) connect(ctx context.Context) error {
	streaming, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.cancel = cancel
	if err := a.reopen(ctx, streaming); err != nil {
		return err
	}
	a.running.Go(func() { a.run(streaming) })
	a.running.Go(func() { a.beat(streaming) })
	return nil
}

// reopen opens a stream that lasts as long as streaming does, and registers.
func (a *fleetAgent) reopen(ctx, streaming context.Context) error {
	return until(ctx, func(context.Context) error {
		err := a.open(streaming)
		if err == nil {
			err = a.register(a.version)
		}
		return err
	})
}

// run comes back when the stream breaks, and resumes where it was.
func (a *fleetAgent) run(ctx context.Context) {
	for ctx.Err() == nil {
		a.receive()
		if ctx.Err() == nil {
			_ = a.reopen(ctx, ctx) // an error is the end of ctx
		}
	}
}

func (a *fleetAgent) open(ctx context.Context) error {
	if a.conn != nil {
		a.conn.Close()
	}
	cert, err := pki.Certificate(a.reply.Chain, a.key)
	if err != nil {
		return err
	}
	roots, err := pki.Pool(a.reply.Roots...)
	if err != nil {
		return err
	}
	a.conn, err = grpcx.Dial(a.network(), a.server, grpcx.TLS{
		TrustDomain: a.reply.TrustDomain,
		Roots:       func() *x509.CertPool { return roots },
		Certificate: func() *tls.Certificate { return cert },
	}, grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10))
	if err != nil {
		return err
	}
	stream, err := apiv1.NewControlClient(a.conn).Connect(ctx, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.stream = stream
	a.mu.Unlock()
	if err := a.send(&apiv1.AgentMessage{Message: &apiv1.AgentMessage_Hello{Hello: &apiv1.Hello{
		ClusterId: a.reply.ClusterId, Version: "bench", Address: source(a.number).String(), InboundPort: 7443, PartialSlices: true, SliceVersion: a.acked,
	}}}); err != nil {
		return err
	}
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	if m.GetWelcome() == nil {
		return fmt.Errorf("the server began with %v", m)
	}
	return nil
}

func (a *fleetAgent) send(m *apiv1.AgentMessage) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stream.Send(m)
}

// register sends what the host runs; version is that of its first instance.
func (a *fleetAgent) register(version string) error {
	set := append([]*apiv1.Instance(nil), a.instances...)
	set[0] = proto.CloneOf(set[0])
	set[0].Meta = map[string]string{"version": version}
	a.sequence++
	a.version = version
	return a.send(&apiv1.AgentMessage{Message: &apiv1.AgentMessage_Registrations{Registrations: &apiv1.Registrations{Sequence: a.sequence, Instances: set}}})
}

func (a *fleetAgent) receive() {
	for {
		m, err := a.stream.Recv()
		if err != nil {
			return
		}
		u := m.GetSlice()
		if u == nil {
			continue
		}
		if !u.GetMore() {
			a.acked = u.GetVersion()
		}
		if !u.GetMore() && a.send(&apiv1.AgentMessage{Message: &apiv1.AgentMessage_Ack{Ack: &apiv1.Ack{Version: u.GetVersion()}}}) != nil {
			return
		}
		a.fleet.heard(a, u)
	}
}

func (a *fleetAgent) beat(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = a.send(&apiv1.AgentMessage{Message: &apiv1.AgentMessage_Heartbeat{Heartbeat: &apiv1.Heartbeat{}}}) // run sees to broken streams
		case <-ctx.Done():
			return
		}
	}
}

func (a *fleetAgent) close() {
	if a.cancel != nil {
		a.cancel()
	}
	if a.conn != nil {
		a.conn.Close()
	}
	a.running.Wait()
}
