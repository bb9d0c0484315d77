package mtls

import (
	"crypto/tls"
	"errors"
	"time"

	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/pki"
)

// verify returns the identity that a peer has proved.
func verify(state tls.ConnectionState, source Source, trustDomain string) (mesh.Identity, error) {
	roots := source.Roots()
	if roots == nil {
		// x509 would trust what the machine trusts.
		return mesh.Identity{}, errors.New("no trust anchors are loaded")
	}
	return pki.VerifyPeer(state, roots, trustDomain)
}

// Peer is the SPIFFE ID of the other end, once the handshake is complete.
func Peer(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return ""
	}
	id, err := pki.LeafIdentity(state.PeerCertificates[0])
	if err != nil {
		return ""
	}
	return id.String()
}

// Expires is when the other end's certificate ends.
func Expires(state tls.ConnectionState) time.Time {
	if len(state.PeerCertificates) == 0 {
		return time.Time{}
	}
	return state.PeerCertificates[0].NotAfter
}

// errPeer marks failures to prove the right identity, as opposed to those of
// the network.
type errPeer struct{ error }

func (e errPeer) Unwrap() error { return e.error }

// IsIdentityError reports whether a handshake failed because the peer did not
// prove the identity that was expected.
func IsIdentityError(err error) bool {
	var e errPeer
	return errors.As(err, &e)
}
