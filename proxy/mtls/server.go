package mtls

import (
	"crypto/tls"
	"fmt"
	"slices"

	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/pki"
)

// A Host is what a TLS server name stands for.
type Host struct {
	Identity  string   // SPIFFE ID to prove
	Protocols []string // ALPN, the best first
}

// Server is the configuration of a listener that takes calls for the hosts that
// lookup knows.
func Server(source Source, lookup func(serverName string) (Host, bool)) *tls.Config {
	c := pki.BaseConfig()
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		host, ok := lookup(hello.ServerName)
		if !ok {
			return nil, fmt.Errorf("there is no instance called %q here", hello.ServerName)
		}
		return serverFor(source, host)
	}
	return c
}

func serverFor(source Source, host Host) (*tls.Config, error) {
	certificate := source.Certificate(host.Identity)
	if certificate == nil {
		return nil, fmt.Errorf("%w %s", ErrNoCertificate, host.Identity)
	}
	c := pki.BaseConfig()
	c.Certificates = []tls.Certificate{*certificate}
	c.NextProtos = host.Protocols
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(state tls.ConnectionState) error { return verifyClient(state, source, host) }
	c.DynamicRecordSizingDisabled = true
	return c, nil
}

// verifyClient takes any service or host of our own trust domain; policy decides
// what it may do.
func verifyClient(state tls.ConnectionState, source Source, host Host) error {
	if !slices.Contains(host.Protocols, state.NegotiatedProtocol) {
		return fmt.Errorf("the caller speaks %q, not %q", state.NegotiatedProtocol, host.Protocols)
	}
	own, err := mesh.ParseIdentity(host.Identity)
	if err != nil {
		return err
	}
	id, err := verify(state, source, own.TrustDomain)
	if err != nil {
		return errPeer{err}
	}
	if id.Kind != mesh.KindService && id.Kind != mesh.KindHost {
		return errPeer{fmt.Errorf("the caller %s is neither a service nor a host", id)}
	}
	return nil
}
