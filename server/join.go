package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/jointoken"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/internal/version"
)

const joinRetry = time.Second

// Join makes this a server of the mesh that a join token is for: it fills an
// empty data directory, and the server takes part when it is started. If the
// answer of the mesh is lost it may be repeated with the same token.
func Join(ctx context.Context, c Config, text string) error {
	if err := c.checkNamed(); err != nil {
		return err
	}
	token, err := jointoken.Parse(text)
	if err != nil {
		return err
	}
	switch {
	case !token.Server:
		return errors.New("the join token is for hosts: for a server, make one with: meshd token create --server")
	case !time.Now().Before(token.Expires):
		return fmt.Errorf("the join token expired at %s: make a new one with: meshd token create --server", token.Expires.UTC().Format(time.RFC3339))
	}
	dir := dataDir(c.DataDir)
	// A join that was cut off has left its key, by which the mesh knows that it
	// is the same server that asks again.
	if err := dir.claim(keyFile); err != nil {
		return err
	}
	key, err := dir.ownKey()
	if err != nil {
		return err
	}
	m, err := enroll(ctx, c, token, key)
	if err != nil {
		return err
	}
	return dir.write(m)
}

func (d dataDir) ownKey() (*ecdsa.PrivateKey, error) {
	key, err := pki.ReadKey(d.file(keyFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = pki.NewKey(); err != nil {
		return nil, err
	}
	return key, pki.WriteKey(d.file(keyFile), key)
}

// enroll asks one server after the other until one lets this one in, one says
// why not, or ctx ends.
func enroll(ctx context.Context, c Config, token *jointoken.Token, key *ecdsa.PrivateKey) (*member, error) {
	csr, err := pki.NewCSR(key)
	if err != nil {
		return nil, err
	}
	request := &apiv1.JoinRequest{
		TokenId: token.ID, Secret: token.Secret[:], Name: c.Name, Csr: csr, Version: version.Version(),
		Server: &apiv1.ServerJoin{Address: c.Advertise, GossipAddress: c.GossipAdvertise, FeatureLevel: c.featureLevel()},
	}
	for {
		for _, address := range token.Addresses {
			var reply *apiv1.JoinReply
			reply, err = ask(ctx, c, token, address, request)
			if err == nil {
				return newMember(c, token, key, reply)
			}
			if !passing(err) {
				return nil, fmt.Errorf("the mesh does not let this server in: %s", status.Convert(err).Message())
			}
			c.Logger.Warn("joining through a server failed; trying another", "address", address, "error", err)
		}
		if !sleep(ctx, joinRetry) {
			return nil, fmt.Errorf("joining the mesh through %v: %w (last: %w)", token.Addresses, context.Cause(ctx), err)
		}
	}
}

func ask(ctx context.Context, c Config, token *jointoken.Token, address string, request *apiv1.JoinRequest) (*apiv1.JoinReply, error) {
	conn, err := grpcx.DialPinned(c.Network, address, token.TrustDomain, token.Pin)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return apiv1.NewEnrollClient(conn).Join(ctx, request)
}

// passing says whether another attempt may end otherwise.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Unknown, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted:
		return true
	}
	return false
}

// newMember checks the answer as far as the token allows.
func newMember(c Config, token *jointoken.Token, key *ecdsa.PrivateKey, r *apiv1.JoinReply) (*member, error) {
	m := &member{
		record: record{
			ID: r.Id, Name: c.Name, ClusterID: r.ClusterId, ClusterName: r.ClusterName,
			TrustDomain: token.TrustDomain, Recovery: r.Server.GetRecovery(), GossipPeers: r.Server.GetGossipAddresses(),
		},
		key: key, chain: r.Chain, roots: r.Roots,
	}
	if err := checkChain(token, c.Name, key, r.Chain); err != nil {
		return nil, fmt.Errorf("the mesh sent a certificate that is of no use: %w", err)
	}
	if err := m.takeSecrets(r.GetServer()); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *member) takeSecrets(s *apiv1.ServerSecrets) error {
	keys := s.GetGossipKeys()
	if len(keys) == 0 {
		keys = [][]byte{s.GetGossipKey()} // from a server that knows of one only
	}
	for _, key := range keys {
		if len(key) != len(gossip.Key{}) {
			return errNoKeys
		}
		m.gossip = append(m.gossip, gossip.Key(key))
	}
	if len(s.GetSealingKey()) != len(m.sealing) {
		return errNoKeys
	}
	copy(m.sealing[:], s.SealingKey)
	return nil
}

var errNoKeys = errors.New("the mesh did not send the keys that a server needs: are all servers of the same version?")

func checkChain(token *jointoken.Token, name string, key *ecdsa.PrivateKey, chain [][]byte) error {
	if _, err := pki.Certificate(chain, key); err != nil {
		return err
	}
	var peer tls.ConnectionState
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		peer.PeerCertificates = append(peer.PeerCertificates, cert)
	}
	id, err := pki.VerifyPinned(peer, token.Pin, token.TrustDomain)
	if err == nil && id.Name != name {
		err = fmt.Errorf("it is for %s", id)
	}
	return err
}
