package meshtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/agent/slice"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/jointoken"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/pki"
)

// A FakeAgent speaks the agents' protocol, and does nothing by itself but send
// heartbeats and acknowledge slices. Tests of servers use it to do what a real
// agent never would.
type FakeAgent struct {
	Name string
	Host *memnet.Host
	// Reply is what the mesh answered to the join.
	Reply *apiv1.JoinReply

	mesh *Mesh
	key  *ecdsa.PrivateKey
	tls  grpcx.TLS
}

// NewFakeAgent adds a host without an agent's rights; EnrollWith gets them.
func (m *Mesh) NewFakeAgent(name string) *FakeAgent {
	m.T.Helper()
	key, err := pki.NewKey()
	if err != nil {
		m.T.Fatal(err)
	}
	return &FakeAgent{Name: name, Host: m.Host(name), mesh: m, key: key}
}

// JoinFakeAgent adds a host and lets it join.
func (m *Mesh) JoinFakeAgent(name string) *FakeAgent {
	m.T.Helper()
	a := m.NewFakeAgent(name)
	if err := a.EnrollWith(m.CreateToken(&apiv1.CreateTokenRequest{}), nil); err != nil {
		m.T.Fatalf("joining host %s: %v", name, err)
	}
	return a
}

// CSR asks for a certificate for the host's own key.
func (a *FakeAgent) CSR() []byte {
	a.mesh.T.Helper()
	csr, err := pki.NewCSR(a.key)
	if err != nil {
		a.mesh.T.Fatal(err)
	}
	return csr
}

// NewKey makes later requests for certificates ask for another key; connections
// go on with the old one.
func (a *FakeAgent) NewKey() {
	a.mesh.T.Helper()
	key, err := pki.NewKey()
	if err != nil {
		a.mesh.T.Fatal(err)
	}
	a.key = key
}

// EnrollWith joins by token. change, if not nil, may spoil the request.
func (a *FakeAgent) EnrollWith(text string, change func(*apiv1.JoinRequest)) error {
	a.mesh.T.Helper()
	token, err := jointoken.Parse(text)
	if err != nil {
		return err
	}
	request := &apiv1.JoinRequest{
		TokenId: token.ID, Secret: token.Secret[:], Name: a.Name, Csr: a.CSR(), Version: "test",
		Address: a.Host.IP().String(), InboundPort: 7443,
	}
	if change != nil {
		change(request)
	}
	conn, err := grpcx.DialPinned(a.Host, token.Addresses[0], token.TrustDomain, token.Pin)
	if err != nil {
		return err
	}
	defer conn.Close()
	reply, err := apiv1.NewEnrollClient(conn).Join(a.mesh.T.Context(), request)
	if err != nil {
		return err
	}
	a.Reply = reply
	a.setTLS()
	return nil
}

func (a *FakeAgent) setTLS() {
	a.mesh.T.Helper()
	cert, err := pki.Certificate(a.Reply.Chain, a.key)
	if err != nil {
		a.mesh.T.Fatal(err)
	}
	roots, err := pki.Pool(a.Reply.Roots...)
	if err != nil {
		a.mesh.T.Fatal(err)
	}
	a.tls = grpcx.TLS{
		TrustDomain: a.Reply.TrustDomain,
		Roots:       func() *x509.CertPool { return roots },
		Certificate: func() *tls.Certificate { return cert },
	}
}

// TLS is what the host shows on connections to servers.
func (a *FakeAgent) TLS() grpcx.TLS { return a.tls }

// Dial connects to a server with the host's certificate.
func (a *FakeAgent) Dial(s *Server) *grpc.ClientConn {
	a.mesh.T.Helper()
	conn, err := grpcx.Dial(a.Host, s.Address(), a.tls)
	if err != nil {
		a.mesh.T.Fatal(err)
	}
	a.mesh.T.Cleanup(func() { conn.Close() })
	return conn
}

// Sign asks a server for the certificate of a service, or with "" for the host's
// own.
func (a *FakeAgent) Sign(s *Server, service string) ([][]byte, error) {
	a.mesh.T.Helper()
	reply, err := apiv1.NewControlClient(a.Dial(s)).Sign(a.mesh.T.Context(), &apiv1.SignRequest{
		Requests: []*apiv1.CertificateRequest{{Service: service, Csr: a.CSR()}},
	})
	if err != nil {
		return nil, err
	}
	if c := reply.Certificates[0]; c.Error != "" {
		return nil, errors.New(c.Error)
	}
	return reply.Certificates[0].Chain, nil
}

// ServiceTLS is what a service of the host would show, which it has registered.
func (a *FakeAgent) ServiceTLS(s *Server, service string) grpcx.TLS {
	a.mesh.T.Helper()
	chain, err := a.Sign(s, service)
	if err != nil {
		a.mesh.T.Fatal(err)
	}
	cert, err := pki.Certificate(chain, a.key)
	if err != nil {
		a.mesh.T.Fatal(err)
	}
	t := a.tls
	t.Certificate = func() *tls.Certificate { return cert }
	return t
}

// A FakeStream is one stream of a FakeAgent.
type FakeStream struct {
	mesh   *Mesh
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[apiv1.AgentMessage, apiv1.ServerMessage]
	cancel context.CancelFunc
	done   chan struct{} // closed when the stream has ended, with err set

	mu      sync.Mutex
	welcome *apiv1.Welcome
	slice   *slice.Slice
	part    *apiv1.SliceUpdate // of an update in several messages
	updates []*apiv1.SliceUpdate
	moves   []string
	results map[uint64]string
	held    bool // acknowledgements
	err     error
}

// Connect opens a stream to a server, with heartbeats.
func (a *FakeAgent) Connect(s *Server) *FakeStream {
	a.mesh.T.Helper()
	return a.ConnectWith(s, &apiv1.Hello{
		ClusterId: a.Reply.ClusterId, Version: "test", Address: a.Host.IP().String(), InboundPort: 7443,
		PartialSlices: true,
	})
}

// ConnectWith opens a stream to a server with a hello of the test's own.
func (a *FakeAgent) ConnectWith(s *Server, hello *apiv1.Hello) *FakeStream {
	a.mesh.T.Helper()
	conn, err := grpcx.Dial(a.Host, s.Address(), a.tls)
	if err != nil {
		a.mesh.T.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := apiv1.NewControlClient(conn).Connect(ctx)
	if err != nil {
		a.mesh.T.Fatal(err)
	}
	f := &FakeStream{mesh: a.mesh, conn: conn, stream: stream, cancel: cancel, done: make(chan struct{}), slice: slice.Empty(), results: map[uint64]string{}}
	a.mesh.T.Cleanup(f.Break)
	f.Send(&apiv1.AgentMessage{Message: &apiv1.AgentMessage_Hello{Hello: hello}})
	go f.receive()
	go f.beat(ctx)
	return f
}

// Send sends a message; that the stream has ended shows elsewhere.
func (f *FakeStream) Send(m *apiv1.AgentMessage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.stream.Send(m)
}

func (f *FakeStream) beat(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.Send(&apiv1.AgentMessage{Message: &apiv1.AgentMessage_Heartbeat{Heartbeat: &apiv1.Heartbeat{}}})
		case <-ctx.Done():
			return
		case <-f.done:
			return
		}
	}
}

func (f *FakeStream) receive() {
	defer close(f.done)
	for {
		m, err := f.stream.Recv()
		if err == nil {
			err = f.take(m)
		}
		if err != nil {
			f.mu.Lock()
			f.err = err
			f.mu.Unlock()
			return
		}
	}
}

func (f *FakeStream) take(m *apiv1.ServerMessage) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch m := m.Message.(type) {
	case *apiv1.ServerMessage_Welcome:
		f.welcome = m.Welcome
	case *apiv1.ServerMessage_Registrations:
		f.results[m.Registrations.Sequence] = m.Registrations.Error
	case *apiv1.ServerMessage_Slice:
		err = f.takeSlice(m.Slice)
	case *apiv1.ServerMessage_Move:
		f.moves = append(f.moves, m.Move.Server)
	}
	return err
}

func (f *FakeStream) takeSlice(u *apiv1.SliceUpdate) (err error) {
	if f.part != nil {
		proto.Merge(f.part, u)
		f.part.More, u = u.More, f.part
	}
	if f.part = u; u.More {
		return nil
	}
	f.part = nil
	f.updates = append(f.updates, u)
	if f.slice, err = f.slice.Merge(u); err == nil && !f.held {
		_ = f.stream.Send(ack(u.Version)) // Recv says why, if it fails
	}
	return err
}

// Moves are the servers that the host was asked to go to.
func (f *FakeStream) Moves() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.moves...)
}

func ack(version uint64) *apiv1.AgentMessage {
	return &apiv1.AgentMessage{Message: &apiv1.AgentMessage_Ack{Ack: &apiv1.Ack{Version: version}}}
}

// Hold stops acknowledging slices, or goes on with it.
func (f *FakeStream) Hold(hold bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held = hold; !hold && len(f.updates) > 0 {
		_ = f.stream.Send(ack(f.slice.Version))
	}
}

// Register sends the host's instances and waits for the answer: "" or why they
// were refused.
func (f *FakeStream) Register(sequence uint64, instances ...*apiv1.Instance) (refusal string) {
	f.mesh.T.Helper()
	f.Send(&apiv1.AgentMessage{Message: &apiv1.AgentMessage_Registrations{
		Registrations: &apiv1.Registrations{Sequence: sequence, Instances: instances},
	}})
	f.mesh.WaitFor("the answer to registrations", func() (answered bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		refusal, answered = f.results[sequence]
		return answered
	})
	return refusal
}

// Slice is what the host knows of the mesh.
func (f *FakeStream) Slice() *slice.Slice {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.slice
}

// Updates are all that came, in order.
func (f *FakeStream) Updates() []*apiv1.SliceUpdate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*apiv1.SliceUpdate(nil), f.updates...)
}

// Welcome is the server's, nil before it came.
func (f *FakeStream) Welcome() *apiv1.Welcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.welcome
}

// Err waits for the end of the stream and says what it was.
func (f *FakeStream) Err() error {
	<-f.done
	return f.err
}

// Break ends the stream without a goodbye.
func (f *FakeStream) Break() {
	f.cancel()
	<-f.done
	f.conn.Close()
}
