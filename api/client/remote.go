package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/accesstoken"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/netx"
)

// The environment variables that name a server elsewhere, and the access token
// for it.
const (
	ServerEnv = "MESHD_SERVER"
	TokenEnv  = "MESHD_TOKEN"
)

// A Remote is a server elsewhere, and what is shown to it.
type Remote struct {
	// Address of its TLS port, host:port.
	Address string
	// Token is the text of an access token. It says by which key the mesh's
	// servers are known.
	Token string
	// Roots are PEM certificates to know the servers by instead, may be nil.
	Roots []byte
}

// DialRemote makes a client of a server elsewhere. It connects with the first
// call.
func DialRemote(r Remote, opts ...Option) (*Client, error) {
	o := options{dial: netx.System{}.DialContext}
	for _, opt := range opts {
		opt(&o)
	}
	token, err := accesstoken.Parse(r.Token)
	if err != nil {
		return nil, err
	}
	if _, port, err := net.SplitHostPort(r.Address); err != nil || port == "" {
		return nil, fmt.Errorf("the address %q of the server is not host:port", r.Address)
	}
	conn, err := dialRemote(&network{dial: o.dial}, r, token)
	if err != nil {
		return nil, err
	}
	return &Client{conn, ""}, nil
}

func dialRemote(n netx.Network, r Remote, token *accesstoken.Token) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{
		grpc.WithPerRPCCredentials(bearer(strings.TrimSpace(r.Token))),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReply)),
		grpc.WithUnaryInterceptor(explainer{r.Address}.explain),
		grpc.WithStreamInterceptor(explainer{r.Address}.explainStream),
	}
	if r.Roots == nil {
		return grpcx.DialPinned(n, r.Address, token.TrustDomain, token.Pin, opts...)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(r.Roots) {
		return nil, errors.New("there is no certificate (PEM) to know the servers by")
	}
	return grpcx.Dial(n, r.Address, grpcx.TLS{TrustDomain: token.TrustDomain, Roots: func() *x509.CertPool { return pool }}, opts...)
}

// A network is the machine's, but for how it dials.
type network struct {
	netx.System
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (n *network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return n.dial(ctx, network, address)
}

// bearer shows a token with every call.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity keeps the token from going out in the clear.
func (bearer) RequireTransportSecurity() bool { return true }

// Pages calls for one page after the other, until there is none.
func Pages(call func(*apiv1.Page) (next string, err error)) error {
	for page := (&apiv1.Page{}); ; {
		next, err := call(page)
		if err != nil || next == "" {
			return err
		}
		if next == page.After {
			return errors.New("the server gives the same page again and again")
		}
		page = &apiv1.Page{Size: page.Size, After: next}
	}
}
