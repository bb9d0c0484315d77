package grpcx

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/meshd/meshd/internal/mesh"
)

// PeerIdentity is the verified identity of whoever makes the call that ctx
// belongs to; ok is false if it showed no certificate.
func PeerIdentity(ctx context.Context) (id mesh.Identity, ok bool) {
	info, _ := infoOf(ctx)
	return info.id, info.known
}

// PeerKeyHash is the SHA-256 of the public key of whoever makes the call that
// ctx belongs to; ok is false if it showed no certificate.
func PeerKeyHash(ctx context.Context) (hash [sha256.Size]byte, ok bool) {
	info, _ := infoOf(ctx)
	return info.key, info.known
}

// PeerUID is the user of the local process that makes the call that ctx belongs
// to; ok is false if the call did not come by a unix socket.
func PeerUID(ctx context.Context) (uid uint32, ok bool) {
	info, _ := infoOf(ctx)
	return info.uid, info.local
}

// Trust says that who makes the call that ctx belongs to, by TLS and without a
// certificate, has authenticated by other means.
func Trust(ctx context.Context) {
	if info, _ := infoOf(ctx); info.conn != nil {
		info.conn.Trust()
	}
}

// WithPeer gives a context that knows who is at the other end of a connection,
// for servers of other protocols than gRPC.
func WithPeer(ctx context.Context, c net.Conn) context.Context {
	p := &peer.Peer{Addr: c.RemoteAddr(), LocalAddr: c.LocalAddr()}
	if _, info, err := (serverCredentials{}).ServerHandshake(c); err == nil {
		p.AuthInfo = info
	}
	return peer.NewContext(ctx, p)
}

func infoOf(ctx context.Context) (info peerInfo, ok bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return peerInfo{}, false
	}
	info, ok = p.AuthInfo.(peerInfo)
	return info, ok
}

// peerInfo is what is known of a peer: a Conn's identity or a unix socket's
// user.
type peerInfo struct {
	credentials.CommonAuthInfo
	id    mesh.Identity
	known bool
	key   [sha256.Size]byte
	conn  *Conn // nil on a unix socket
	uid   uint32
	local bool
}

func (peerInfo) AuthType() string { return "meshd" }

// serverCredentials read off a connection who its peer is. The work was done
// before: by the handshake of a Mux, or by the kernel.
type serverCredentials struct{}

var _ credentials.TransportCredentials = serverCredentials{}

func (serverCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info := peerInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	if t, ok := c.(*Conn); ok {
		info.id, info.known = t.Peer()
		info.key, _ = t.KeyHash()
		info.conn = t
		return c, info, nil
	}
	uid, err := peerUID(c)
	if err != nil {
		return nil, nil, fmt.Errorf("finding out who connected: %w", err)
	}
	info.uid, info.local = uid, true
	return c, info, nil
}

// peerUID asks the kernel, or what stands in for it in a network in memory.
func peerUID(c net.Conn) (uint32, error) {
	switch c := c.(type) {
	case interface{ PeerUID() (uint32, error) }:
		return c.PeerUID()
	case *net.UnixConn:
		return socketUID(c)
	}
	return 0, errors.New("it is neither a connection of a Mux nor a unix socket")
}

func socketUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

func (serverCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

func (serverCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "meshd"}
}

func (c serverCredentials) Clone() credentials.TransportCredentials { return c }

func (serverCredentials) OverrideServerName(string) error { return nil }
