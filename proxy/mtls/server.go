package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/meshd/meshd/internal/mesh"
)

// A Host is what a TLS server name stands for.
type Host struct {
	Identity string // SPIFFE ID to prove
	Protocol string // ALPN
}

// Server is the configuration of a listener that takes calls for the hosts that
// lookup knows.
func Server(source Source, lookup func(serverName string) (Host, bool)) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			host, ok := lookup(hello.ServerName)
			if !ok {
				return nil, fmt.Errorf("there is no instance called %q here", hello.ServerName)
			}
			return serverFor(source, host)
		},
	}
}

func serverFor(source Source, host Host) (*tls.Config, error) {
	certificate := source.Certificate(host.Identity)
	if certificate == nil {
		return nil, fmt.Errorf("%w %s", ErrNoCertificate, host.Identity)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{*certificate},
		NextProtos:   []string{host.Protocol},
		// VerifyConnection checks the chain and the identity.
		ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyClient(&state, source, host)
		},
		// A resumed session would outlive a change of trust.
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}, nil
}

// verifyClient takes any service or host of our own trust domain; policy decides
// what it may do.
func verifyClient(state *tls.ConnectionState, source Source, host Host) error {
	if state.NegotiatedProtocol != host.Protocol {
		return fmt.Errorf("the caller speaks %q, not %q", state.NegotiatedProtocol, host.Protocol)
	}
	id, err := verify(state, source.Roots(), x509.ExtKeyUsageClientAuth)
	if err != nil {
		return errPeer{err}
	}
	own, err := mesh.ParseIdentity(host.Identity)
	if err != nil {
		return err
	}
	if id.TrustDomain != own.TrustDomain {
		return errPeer{fmt.Errorf("the caller %s is of another trust domain", id)}
	}
	if id.Kind != mesh.KindService && id.Kind != mesh.KindHost {
		return errPeer{errors.New("the caller is neither a service nor a host")}
	}
	return nil
}
