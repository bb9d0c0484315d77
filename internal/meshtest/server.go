package meshtest

import (
	"crypto/tls"
	"crypto/x509"
	"net"

	"google.golang.org/grpc"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/server"
)

const (
	serverPort   = "7300"
	gossipPort   = "7301"
	httpAddress  = "127.0.0.1:7302"
	serverSocket = "/run/meshd/server.sock"
)

// A Server is one of a mesh's servers, on a host of its own.
type Server struct {
	*server.Server
	Name string
	Host *memnet.Host

	mesh    *Mesh
	running bool
	stopped chan struct{} // closed when a crashed one has let go of its files
	client  *client.Client
}

// Config is what the server runs with.
func (s *Server) Config() server.Config {
	c := server.Config{
		Name: s.Name, DataDir: s.mesh.Dir(s.Name, "server"),
		Listen: ":" + serverPort, Advertise: s.Address(),
		GossipListen: ":" + gossipPort, GossipAdvertise: net.JoinHostPort(s.Host.IP().String(), gossipPort),
		HTTP: httpAddress, Socket: serverSocket,
		Network: s.Host, Logger: s.mesh.log, NoSync: true,
	}
	if s.mesh.Configure != nil {
		s.mesh.Configure(&c)
	}
	return c
}

// Address of the server's TLS port.
func (s *Server) Address() string { return net.JoinHostPort(s.Host.IP().String(), serverPort) }

func (s *Server) init() {
	s.mesh.T.Helper()
	if err := server.Init(s.Config(), s.mesh.Init); err != nil {
		s.mesh.T.Fatalf("making the mesh: %v", err)
	}
}

func (s *Server) join(token string) {
	s.mesh.T.Helper()
	if err := server.Join(s.mesh.T.Context(), s.Config(), token); err != nil {
		s.mesh.T.Fatalf("joining %s: %v", s.Name, err)
	}
}

// Start starts the server on what is in its data directory.
func (s *Server) Start() {
	s.mesh.T.Helper()
	var err error
	if s.Server, err = server.New(s.Config()); err == nil {
		err = s.Server.Start(s.mesh.T.Context())
	}
	if err != nil {
		s.mesh.T.Fatalf("starting %s: %v", s.Name, err)
	}
	s.running = true
}

// Stop stops the server in good order, if it runs.
func (s *Server) Stop() {
	if s.stopped != nil {
		<-s.stopped
	}
	if s.running {
		s.running = false
		s.Server.Stop()
	}
	s.hangUp()
}

// Crash ends the server without a word to anybody. What it had on disk stays.
func (s *Server) Crash() {
	s.mesh.Net.Crash(s.Host)
	s.running = false
	s.stopped = make(chan struct{})
	go func(process *server.Server) {
		defer close(s.stopped)
		process.Stop() // frees its files; nobody hears of it
	}(s.Server)
	s.hangUp()
}

// Restart starts a server that was stopped or has crashed.
func (s *Server) Restart() {
	s.mesh.T.Helper()
	if s.stopped != nil {
		<-s.stopped
		s.stopped = nil
		s.Host = s.mesh.Net.Host(s.Name, s.Host.IP())
	}
	s.Start()
}

// Running reports whether the server was started and neither stopped nor
// crashed since.
func (s *Server) Running() bool { return s.running }

// Admin speaks with the server as an operator on its host.
func (s *Server) Admin() apiv1.AdminClient {
	s.mesh.T.Helper()
	if s.client == nil {
		c, err := client.Dial(s.mesh.T.Context(), serverSocket, client.WithDialer(s.Host.DialContext))
		if err != nil {
			s.mesh.T.Fatalf("connecting to %s: %v", s.Name, err)
		}
		s.client = c
	}
	return s.client.Admin()
}

// Peer speaks with the server as a server: itself, by the keys on its disk.
func (s *Server) Peer() *grpc.ClientConn {
	t := s.mesh.T
	t.Helper()
	key, err := pki.ReadKey(s.mesh.Dir(s.Name, "server/server.key"))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ReadCertificates(s.mesh.Dir(s.Name, "server/server.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := pki.Pool(chain[len(chain)-1])
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.Certificate(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.LeafIdentity(cert.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpcx.Dial(s.Host, s.Address(), grpcx.TLS{
		TrustDomain: id.TrustDomain,
		Roots:       func() *x509.CertPool { return roots },
		Certificate: func() *tls.Certificate { return cert },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (s *Server) hangUp() {
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
}
