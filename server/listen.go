package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/internal/telemetry"
	"github.com/meshd/meshd/internal/version"
	"github.com/meshd/meshd/server/httpapi"
	"github.com/meshd/meshd/server/push"
	"github.com/meshd/meshd/server/rpc"
)

// A port is the TLS port, split by what its clients speak.
type port struct {
	raft  *raftLayer
	calls net.Listener // of gRPC
	web   net.Listener // of HTTP/1.1
}

// listen opens the TLS port and splits it. Clients that speak HTTP/1.1 beside
// HTTP/2 are people's tools, and no gRPC.
func (s *Server) listen(ctx context.Context) (*port, error) {
	l, err := s.cfg.Network.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("opening the TLS port: %w", err)
	}
	s.mux = grpcx.NewMux(l, s.keeper.TLS(), s.log)
	s.onStop(func() { s.complain("closing the TLS port", s.mux.Close()) })
	web := s.mux.Listen(grpcx.HTTP, grpcx.Anybody)
	calls := s.mux.Listen(grpcx.GRPC, grpcx.Anybody)
	return &port{s.listenRaft(), calls, web}, nil
}

// listenRaft takes Raft from servers of the same cluster and count of recoveries,
// and from those too old to tell.
func (s *Server) listenRaft() *raftLayer {
	own := grpcx.RaftOf(s.member.ClusterID, s.member.Recovery)
	l := &raftLayer{s.mux.Listen(own, grpcx.Servers), s.keeper.TLS(), s.cfg.Network, []string{own, grpcx.Raft}}
	s.mux.Alias(grpcx.Raft, own)
	s.mux.Refuse(func(offered []string) error {
		for _, alpn := range offered {
			if strings.HasPrefix(alpn, grpcx.Raft+"/") && alpn != own {
				return fmt.Errorf("a server of another mesh, or one that was left behind by a recovery of this one, wants to replicate: it speaks %.80q, and this one %q", alpn, own)
			}
		}
		return nil
	})
	return l
}

// A raftLayer carries Raft: both ends are servers.
type raftLayer struct {
	net.Listener
	tls     grpcx.TLS
	network netx.Network
	alpn    []string
}

func (l *raftLayer) Dial(address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.tls.Dial(ctx, l.network, address, l.alpn...)
}

// serveCalls serves agents, operators and other servers.
func (s *Server) serveCalls(ctx context.Context, p *port) error {
	s.replica = rpc.NewReplica(s.member.ID, s.store, func(address string) (*grpc.ClientConn, error) {
		return grpcx.Dial(s.cfg.Network, address, s.keeper.TLS(), grpcx.Eager(), s.kin().Dial())
	})
	s.onStop(s.replica.Close)
	s.hub = push.New(push.Config{
		ServerID: s.member.ID, ServerName: s.member.Name, Replica: s.replica, Caller: rpc.Node, Logger: s.log,
	})
	services := rpc.New(rpc.Config{
		Replica: s.replica, Authority: s.keeper.Authority, Secrets: s.secrets, Peers: s.peers, Backup: s.backupStatus,
		Standing: s.keeper.Standing, Vault: s.member.vault(),
		Streams: s.hub, Version: version.Version(), Self: s.member.Name, Logger: s.log, Metrics: s.registry,
		Kin: s.kin(), Problem: s.problem, Keys: s.keyring(), Health: s.health,
	})
	s.census = services.Census
	api := httpapi.NewHandler(services)
	members, strangers := grpcx.Split(p.calls)
	s.serve(services.Strangers(), strangers)
	s.serve(services.TLS(), members)
	s.serveWeb(api, p.web)
	if s.cfg.Socket != "" {
		l, err := listenSocket(ctx, s.cfg.Network, s.cfg.Socket)
		if err != nil {
			s.hub.Stop()
			return err
		}
		fork := grpcx.NewFork(l, s.log)
		s.onStop(func() { s.complain("closing the socket", fork.Close()) })
		s.serve(services.Socket(), fork.GRPC())
		s.serveWeb(api, fork.HTTP())
	}
	s.onStop(s.hub.Stop)
	return nil
}

// serve serves a listener until Stop, which lets calls under way end.
func (s *Server) serve(g *grpc.Server, l net.Listener) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.complain("serving calls on "+l.Addr().String(), g.Serve(l))
	}()
	s.onStop(func() {
		cut := time.AfterFunc(stopTimeout, g.Stop)
		defer cut.Stop()
		g.GracefulStop()
		<-done
	})
}

// serveWeb does the same for the API as JSON.
func (s *Server) serveWeb(api http.Handler, l net.Listener) {
	web := httpapi.Serve(l, api, s.log)
	s.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		s.complain("stopping HTTP on "+l.Addr().String(), web.Stop(ctx))
	})
}

// listenSocket opens a unix socket for root and the server's group. A socket
// that nobody listens on any more is replaced.
func listenSocket(ctx context.Context, network netx.Network, path string) (net.Listener, error) {
	if c, err := network.DialContext(ctx, "unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("opening the socket %s: another meshd listens on it", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replacing the socket %s: %w", path, err)
		}
	}
	l, err := network.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the socket: %w", err)
	}
	// A network in memory has no file for it.
	if err := os.Chmod(path, 0o660); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("opening the socket %s to its group: %w", path, err), l.Close())
	}
	return l, nil
}

// serveHTTP serves metrics and health.
func (s *Server) serveHTTP(ctx context.Context) error {
	if err := s.registerMetrics(); err != nil {
		return err
	}
	if s.cfg.HTTP == "" {
		return nil
	}
	l, err := s.cfg.Network.Listen(ctx, "tcp", s.cfg.HTTP)
	if err != nil {
		return fmt.Errorf("opening the HTTP port: %w", err)
	}
	h := telemetry.Serve(l, telemetry.Handler(s.registry, s.healthy), s.log)
	s.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		s.complain("stopping HTTP", h.Stop(ctx))
	})
	return nil
}
