package grpcx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/pki"
)

const domain = "corp.example"

// world is a mesh's authority and a network with a server's host and an
// agent's.
type world struct {
	t      *testing.T
	issuer *pki.Issuer
	pool   *x509.CertPool
	net    *memnet.Net
	s1     *memnet.Host
	vm1    *memnet.Host
}

func newWorld(t *testing.T) *world {
	n := memnet.New()
	w := &world{
		t: t, net: n,
		s1:  n.Host("s1", netip.MustParseAddr("10.0.0.1")),
		vm1: n.Host("vm1", netip.MustParseAddr("10.0.0.2")),
	}
	w.issuer, w.pool = newAuthority(t)
	return w
}

func newAuthority(t *testing.T) (*pki.Issuer, *x509.CertPool) {
	t.Helper()
	rootKey, err := pki.NewKey()
	must(t, err)
	key, err := pki.NewKey()
	must(t, err)
	root, err := pki.NewRoot(domain, rootKey, time.Now())
	must(t, err)
	issuing, err := pki.NewIssuing(root, rootKey, domain, &key.PublicKey, time.Now())
	must(t, err)
	issuer, err := pki.NewIssuer(key, issuing.Raw, root.Raw)
	must(t, err)
	pool, err := pki.Pool(root.Raw)
	must(t, err)
	return issuer, pool
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// certificate is a fresh one with a life of its own.
func (w *world) certificate(id mesh.Identity, ttl time.Duration) *tls.Certificate {
	w.t.Helper()
	key, err := pki.NewKey()
	must(w.t, err)
	csr, err := pki.NewCSR(key)
	must(w.t, err)
	chain, err := w.issuer.IssueLeaf(csr, id, ttl, time.Now())
	must(w.t, err)
	cert, err := pki.Certificate(chain, key)
	must(w.t, err)
	return cert
}

func (w *world) roots() *x509.CertPool { return w.pool }

// as is the TLS of whoever has an identity, for a day.
func (w *world) as(id mesh.Identity) TLS {
	cert := w.certificate(id, 24*time.Hour)
	return TLS{TrustDomain: domain, Roots: w.roots, Certificate: func() *tls.Certificate { return cert }}
}

func (w *world) server() TLS { return w.as(mesh.ServerIdentity(domain, "s1")) }
func (w *world) agent() TLS  { return w.as(mesh.HostIdentity(domain, "vm1")) }
func (w *world) nobody() TLS { return TLS{TrustDomain: domain, Roots: w.roots} }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// mux listens on s1:7300 with the protocols of a server.
func (w *world) mux(t TLS) (m *Mux, grpcs, rafts net.Listener) {
	w.t.Helper()
	l, err := w.s1.Listen(w.t.Context(), "tcp", ":7300")
	must(w.t, err)
	m = NewMux(l, t, quiet())
	return m, m.Listen(GRPC, Anybody), m.Listen(Raft, Servers)
}

// service answers each heartbeat and tells who asked.
type service struct {
	apiv1.UnimplementedControlServer
}

func (service) Connect(s apiv1.Control_ConnectServer) error {
	for {
		if _, err := s.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := s.Send(&apiv1.ServerMessage{}); err != nil {
			return err
		}
	}
}

// Sign answers with the caller's name instead of a certificate.
func (service) Sign(ctx context.Context, req *apiv1.SignRequest) (*apiv1.SignReply, error) {
	name := "nobody"
	if id, ok := PeerIdentity(ctx); ok {
		name = id.Short()
	}
	if uid, ok := PeerUID(ctx); ok {
		name = "user " + string(rune('0'+uid%10))
	}
	return &apiv1.SignReply{Certificates: []*apiv1.Certificate{{Error: name}}}, nil
}

func serve(l net.Listener) *grpc.Server {
	s := NewServer()
	apiv1.RegisterControlServer(s, service{})
	go s.Serve(l)
	return s
}

func whoAmI(ctx context.Context, c *grpc.ClientConn) (string, error) {
	reply, err := apiv1.NewControlClient(c).Sign(ctx, &apiv1.SignRequest{})
	if err != nil {
		return "", err
	}
	return reply.Certificates[0].Error, nil
}
