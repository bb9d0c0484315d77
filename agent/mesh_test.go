package agent

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/jointoken"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/pki"
)

const serverAddress = "10.0.0.100:7300"

// A fakeMesh is one server as far as an agent can tell, and the hosts that join
// it.
type fakeMesh struct {
	apiv1.UnimplementedEnrollServer
	apiv1.UnimplementedControlServer
	apiv1.UnimplementedAdminServer
	t      *testing.T
	net    *memnet.Net
	issuer *pki.Issuer
	server *memnet.Host
	stop   func()

	mu       sync.Mutex
	joins    []*apiv1.JoinRequest
	lost     bool   // the next answer to a join
	refusal  string // of registrations
	acks     []*apiv1.Ack
	goodbyes int
	version  uint64
	set      []*apiv1.Instance
}

// bubble runs a test of hosts and a server in fake time.
func bubble(t *testing.T, test func(t *testing.T, m *fakeMesh)) {
	synctest.Test(t, func(t *testing.T) {
		m := &fakeMesh{t: t, net: memnet.New(), issuer: newIssuer(t)}
		m.server = m.net.Host("s1", netip.MustParseAddr("10.0.0.100"))
		m.start()
		test(t, m)
		m.stop()
	})
}

func newIssuer(t *testing.T) *pki.Issuer {
	t.Helper()
	rootKey, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	root, err := pki.NewRoot("mesh", rootKey, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := pki.NewIssuing(root, rootKey, "mesh", &key.PublicKey, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := pki.NewIssuer(key, issuing.Raw, root.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

// root is the trust anchor of the mesh.
func (m *fakeMesh) root() *x509.Certificate {
	root, err := x509.ParseCertificate(m.issuer.Above()[1])
	if err != nil {
		m.t.Fatal(err)
	}
	return root
}

func (m *fakeMesh) certificate() *tls.Certificate {
	key, err := pki.NewKey()
	if err != nil {
		m.t.Fatal(err)
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		m.t.Fatal(err)
	}
	chain, err := m.issuer.IssueLeaf(csr, mesh.ServerIdentity("mesh", "s1"), 240*time.Hour, time.Now())
	if err != nil {
		m.t.Fatal(err)
	}
	cert, err := pki.Certificate(chain, key)
	if err != nil {
		m.t.Fatal(err)
	}
	return cert
}

// start brings the server up; m.stop takes it down.
func (m *fakeMesh) start() {
	l, err := m.server.Listen(m.t.Context(), "tcp", serverAddress)
	if err != nil {
		m.t.Fatal(err)
	}
	cert, roots := m.certificate(), x509.NewCertPool()
	roots.AddCert(m.root())
	mux := grpcx.NewMux(l, grpcx.TLS{
		TrustDomain: "mesh",
		Roots:       func() *x509.CertPool { return roots },
		Certificate: func() *tls.Certificate { return cert },
	}, slog.New(slog.DiscardHandler))
	g := grpcx.NewServer(grpc.WaitForHandlers(false))
	apiv1.RegisterEnrollServer(g, m)
	apiv1.RegisterControlServer(g, m)
	apiv1.RegisterAdminServer(g, m)
	listener := mux.Listen(grpcx.GRPC, grpcx.Anybody)
	mux.Start()
	go g.Serve(listener)
	m.stop = func() { g.Stop(); mux.Close() }
}

func (m *fakeMesh) Join(_ context.Context, r *apiv1.JoinRequest) (*apiv1.JoinReply, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.joins = append(m.joins, r)
	if m.lost {
		m.lost = false
		return nil, status.Error(codes.Unavailable, "no leader")
	}
	if r.GetTokenId() != "t1" {
		return nil, status.Error(codes.PermissionDenied, "the token is not known")
	}
	chain, err := m.issuer.IssueLeaf(r.GetCsr(), mesh.HostIdentity("mesh", r.GetName()), 24*time.Hour, time.Now())
	if err != nil {
		return nil, err
	}
	return &apiv1.JoinReply{
		ClusterId: "c1", ClusterName: "test", TrustDomain: "mesh", Id: "id-" + r.GetName(),
		Chain: chain, Roots: [][]byte{m.root().Raw}, Servers: []string{serverAddress},
	}, nil
}

func (m *fakeMesh) Sign(_ context.Context, r *apiv1.SignRequest) (*apiv1.SignReply, error) {
	reply := &apiv1.SignReply{}
	for _, c := range r.GetRequests() {
		id := mesh.ServiceIdentity("mesh", c.GetService())
		if c.GetService() == "" {
			id = mesh.HostIdentity("mesh", "h1")
		}
		chain, err := m.issuer.IssueLeaf(c.GetCsr(), id, 24*time.Hour, time.Now())
		if err != nil {
			return nil, err
		}
		reply.Certificates = append(reply.Certificates, &apiv1.Certificate{Chain: chain})
	}
	return reply, nil
}

func (m *fakeMesh) Status(ctx context.Context, _ *apiv1.StatusRequest) (*apiv1.StatusReply, error) {
	id, _ := grpcx.PeerIdentity(ctx)
	return &apiv1.StatusReply{Version: "asked by " + id.Short()}, nil
}

func (m *fakeMesh) Connect(s apiv1.Control_ConnectServer) error {
	for {
		r, err := s.Recv()
		if err != nil {
			return nil
		}
		for _, answer := range m.answer(r) {
			if err := s.Send(answer); err != nil {
				return err
			}
		}
		if r.GetGoodbye() != nil {
			return nil
		}
	}
}

func (m *fakeMesh) answer(r *apiv1.AgentMessage) []*apiv1.ServerMessage {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch r := r.GetMessage().(type) {
	case *apiv1.AgentMessage_Hello:
		welcome := &apiv1.Welcome{Server: "s1", Servers: []string{serverAddress}}
		return []*apiv1.ServerMessage{{Message: &apiv1.ServerMessage_Welcome{Welcome: welcome}}, m.slice()}
	case *apiv1.AgentMessage_Heartbeat:
		return []*apiv1.ServerMessage{{Message: &apiv1.ServerMessage_Heartbeat{Heartbeat: r.Heartbeat}}}
	case *apiv1.AgentMessage_Registrations:
		result := &apiv1.RegistrationsResult{Sequence: r.Registrations.GetSequence(), Error: m.refusal}
		answers := []*apiv1.ServerMessage{{Message: &apiv1.ServerMessage_Registrations{Registrations: result}}}
		if m.refusal == "" {
			m.set = r.Registrations.GetInstances()
			answers = append(answers, m.slice())
		}
		return answers
	case *apiv1.AgentMessage_Ack:
		m.acks = append(m.acks, r.Ack)
	case *apiv1.AgentMessage_Goodbye:
		m.goodbyes++
	}
	return nil
}

// slice is what the mesh consists of: what h1 registered.
func (m *fakeMesh) slice() *apiv1.ServerMessage {
	m.version++
	u := &apiv1.SliceUpdate{
		Version: m.version, Snapshot: true, Roots: [][]byte{m.root().Raw},
		Nodes: []*apiv1.Node{{Id: "id-h1", Name: "h1", Address: "10.0.0.1", InboundPort: 7443}},
	}
	for i, instance := range m.set {
		u.Services = append(u.Services, &apiv1.ServiceSlice{Name: instance.GetService(), Vip: uint32(i + 1)})
	}
	return &apiv1.ServerMessage{Message: &apiv1.ServerMessage_Slice{Slice: u}}
}

func (m *fakeMesh) do(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// registered gives the instances that h1 registered, as ID HEALTH.
func (m *fakeMesh) registered() (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.set {
		ids = append(ids, fmt.Sprintf("%s %d", i.GetId(), i.GetHealth()))
	}
	slices.Sort(ids)
	return ids
}

// pushed is the version of the slice that was sent last.
func (m *fakeMesh) pushed() (version uint64) {
	m.do(func() { version = m.version })
	return version
}

func (m *fakeMesh) acknowledged() (acks []*apiv1.Ack) {
	m.do(func() { acks = slices.Clone(m.acks) })
	return acks
}

// said counts the goodbyes.
func (m *fakeMesh) said() (n int) {
	m.do(func() { n = m.goodbyes })
	return n
}

func (m *fakeMesh) token(change func(*jointoken.Token)) string {
	t := &jointoken.Token{
		Addresses: []string{serverAddress}, Pin: sha256.Sum256(m.root().RawSubjectPublicKeyInfo),
		ID: "t1", TrustDomain: "mesh", Expires: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(t)
	}
	return t.Encode()
}

// host gives the configuration of h1, attached to the network.
func (m *fakeMesh) host() Config {
	cfg := Config{
		Agent: config.DefaultAgent(), Network: m.net.Host("h1", netip.MustParseAddr("10.0.0.1")),
		Caller: func(net.Conn) string { return "spiffe://mesh/host/h1" }, Logger: slog.New(slog.DiscardHandler),
	}
	cfg.Name, cfg.DataDir, cfg.ServicesDir, cfg.Socket = "h1", m.t.TempDir(), m.t.TempDir(), "/agent.sock"
	return cfg
}

// join makes h1 a member and gives its configuration.
func (m *fakeMesh) join() Config {
	m.t.Helper()
	cfg := m.host()
	if _, err := Join(m.t.Context(), cfg, m.token(nil)); err != nil {
		m.t.Fatal(err)
	}
	return cfg
}

func startAgent(t *testing.T, cfg Config) *Agent {
	t.Helper()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}
