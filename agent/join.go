package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshd/meshd/agent/cert"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/atomicfile"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/jointoken"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/internal/version"
)

// joinTimeout bounds the attempt to join by one server.
const joinTimeout = 10 * time.Second

// Join makes the host a member of the mesh that the token is from. It is
// refused when the host is in one already. An attempt whose answer was lost can
// be repeated with the same token.
func Join(ctx context.Context, cfg Config, token string) (*Membership, error) {
	cfg = cfg.complete()
	t, err := checkToken(token)
	if err != nil {
		return nil, err
	}
	if cfg.Name == "" {
		if cfg.Name, err = config.HostName(); err != nil {
			return nil, err
		}
	}
	if err := checkNotJoined(cfg.DataDir); err != nil {
		return nil, err
	}
	key, err := joinKey(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	m, reply, err := enroll(ctx, cfg, t, key)
	if err != nil {
		return nil, err
	}
	return m, m.settle(cfg.DataDir, key, reply)
}

func checkToken(token string) (*jointoken.Token, error) {
	t, err := jointoken.Parse(token)
	switch {
	case err != nil:
		return nil, err
	case t.Server:
		return nil, errors.New("this token is for a server: run meshd join --server TOKEN, or make another with meshd token create")
	case time.Now().After(t.Expires):
		return nil, fmt.Errorf("the token expired on %s: make another on a server host with meshd token create", t.Expires.UTC().Format(time.RFC3339))
	}
	return t, nil
}

func checkNotJoined(dir string) error {
	m, err := Joined(dir)
	if errors.Is(err, ErrNotJoined) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("this host is in the mesh %q already, as %s: to join another, stop the agent (systemctl stop meshd-agent), remove %s, and join again", m.ClusterName, m.Name, dir)
}

// joinKey gives the key that the host joins with. It is kept, so that a second
// attempt is seen to come from the same host.
func joinKey(dir string) (*ecdsa.PrivateKey, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the agent's data folder: %w", err)
	}
	path := joinKeyPath(dir)
	key, err := pki.ReadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = pki.NewKey(); err != nil {
		return nil, err
	}
	return key, pki.WriteKey(path, key)
}

func joinKeyPath(dir string) string { return filepath.Join(dir, "join.key") }

// enroll asks one server after the other to let the host in, until one decides.
func enroll(ctx context.Context, cfg Config, t *jointoken.Token, key *ecdsa.PrivateKey) (*Membership, *apiv1.JoinReply, error) {
	csr, err := pki.NewCSR(key)
	if err != nil {
		return nil, nil, err
	}
	var failures error
	for _, address := range t.Addresses {
		own, err := cfg.address(ctx, []string{address})
		if err != nil {
			return nil, nil, err
		}
		request := &apiv1.JoinRequest{
			TokenId: t.ID, Secret: t.Secret[:], Name: cfg.Name, Address: own.String(),
			InboundPort: uint32(cfg.inboundPort()), Csr: csr, Version: version.Version(),
		}
		reply, err := askToJoin(ctx, cfg, t, address, request)
		if err == nil {
			m, err := newMembership(request, reply, t)
			return m, reply, err
		}
		if !isAway(err) {
			return nil, nil, fmt.Errorf("the mesh refused this host: %s", status.Convert(err).Message())
		}
		failures = errors.Join(failures, fmt.Errorf("%s: %s", address, status.Convert(err).Message()))
	}
	return nil, nil, fmt.Errorf("no server of the mesh can be reached; is its port open to this host?\n%w", failures)
}

func askToJoin(ctx context.Context, cfg Config, t *jointoken.Token, address string, r *apiv1.JoinRequest) (*apiv1.JoinReply, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	conn, err := grpcx.DialPinned(cfg.Network, address, t.TrustDomain, t.Pin)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return apiv1.NewEnrollClient(conn).Join(ctx, r)
}

// isAway tells a server that could not be asked, or cannot decide now, from one
// that decided.
func isAway(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return false
}

// newMembership takes a server's word for everything but the root, which the
// token pins.
func newMembership(request *apiv1.JoinRequest, reply *apiv1.JoinReply, t *jointoken.Token) (*Membership, error) {
	m := &Membership{
		ClusterID: reply.GetClusterId(), ClusterName: reply.GetClusterName(), TrustDomain: reply.GetTrustDomain(),
		NodeID: reply.GetId(), Name: request.GetName(), Address: request.GetAddress(),
		Servers: reply.GetServers(), Roots: reply.GetRoots(),
	}
	if m.ClusterID == "" || m.NodeID == "" || m.TrustDomain != t.TrustDomain {
		return nil, errors.New("the server's answer does not say what this host joined: it is of another version")
	}
	if len(m.Servers) == 0 {
		m.Servers = t.Addresses
	}
	for _, der := range m.Roots {
		if root, err := x509.ParseCertificate(der); err == nil && pki.Pin(root) == t.Pin {
			return m, nil
		}
	}
	return nil, errors.New("the server's answer lacks the root certificate that the token names")
}

// settle writes down what the host became. The membership comes last: only with
// it does the host count as joined.
func (m *Membership) settle(dir string, key *ecdsa.PrivateKey, reply *apiv1.JoinReply) error {
	if err := os.RemoveAll(slicePath(dir)); err != nil {
		return fmt.Errorf("removing what the host knew of another mesh: %w", err)
	}
	if err := cert.Save(certDir(dir), m.identity(), key, reply.GetChain(), reply.GetAuthorityGeneration()); err != nil {
		return fmt.Errorf("keeping the host's certificate: %w", err)
	}
	if err := m.save(dir); err != nil {
		return err
	}
	return atomicfile.Remove(joinKeyPath(dir))
}

func certDir(dir string) string   { return filepath.Join(dir, "certs") }
func slicePath(dir string) string { return filepath.Join(dir, "slice.pb") }

func interestPath(dir string) string { return filepath.Join(dir, "interest.json") }
func declaredDir(dir string) string  { return filepath.Join(dir, "declared") }
