// Package dev runs a whole mesh in one process, for a first look and for
// developers: a server and agents, each agent a host of its own.
package dev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/meshd/meshd/agent"
	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/server"
)

// Options of a Mesh.
type Options struct {
	// Dir keeps the state; with state of before in it, that mesh goes on.
	Dir string
	// Agents is how many hosts there are, 1 to 32.
	Agents int
	// Prefix names the hosts: PREFIX-1, PREFIX-2 and so on.
	Prefix string
	// HTTP and DNS are the addresses of the first host's agent; empty means what
	// it had before, else the usual ones. Those of the others are chosen.
	HTTP, DNS string
	Logger    *slog.Logger
}

const maxAgents = 32

// loopbacks are the hosts' own parts of the loopback range, below the range of
// agents that are installed.
func loopback(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127, byte(64 + i), 0, 0}), 16)
}

// A Mesh is a server and the hosts of its mesh.
type Mesh struct {
	dir    string
	logger *slog.Logger
	config server.Config
	server *server.Server
	Hosts  []*Host
}

// A Host is an agent that stands for a machine.
type Host struct {
	Name   string
	Socket string // of its agent
	HTTP   string
	DNS    string

	agent    *agent.Agent
	loopback netip.Prefix
	trust    string
}

// Start runs a mesh until Stop.
func Start(ctx context.Context, o Options) (*Mesh, error) {
	if o.Agents < 1 || o.Agents > maxAgents {
		return nil, fmt.Errorf("%d agents are not 1 to %d", o.Agents, maxAgents)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the mesh: %w", err)
	}
	m := &Mesh{dir: o.Dir, logger: o.Logger}
	if err := m.start(ctx, o); err != nil {
		m.Stop()
		return nil, err
	}
	return m, nil
}

func (m *Mesh) start(ctx context.Context, o Options) error {
	if err := m.configureServer(); err != nil {
		return err
	}
	if err := m.StartServer(ctx); err != nil {
		return err
	}
	for i := range o.Agents {
		h, err := m.addHost(ctx, o, i)
		if err != nil {
			return fmt.Errorf("host %s-%d: %w", o.Prefix, i+1, err)
		}
		m.Hosts = append(m.Hosts, h)
	}
	return nil
}

// configureServer reads the server's file, or makes a new mesh and writes it.
func (m *Mesh) configureServer() error {
	path := filepath.Join(m.dir, "server.yaml")
	file, err := config.LoadServer(path)
	if err != nil {
		return err
	}
	_, err = os.Stat(path)
	fresh := errors.Is(err, os.ErrNotExist)
	if fresh {
		ports, err := freePorts(3)
		if err != nil {
			return err
		}
		file.Name, file.DataDir, file.Socket = "dev", filepath.Join(m.dir, "server"), filepath.Join(m.dir, "server.sock")
		file.Listen, file.GossipListen, file.HTTP = ports[0], ports[1], ports[2]
		file.Advertise, file.GossipAdvertise = file.Listen, file.GossipListen
	}
	m.config = server.Config{
		Name: file.Name, DataDir: file.DataDir,
		Listen: file.Listen, Advertise: file.Advertise,
		GossipListen: file.GossipListen, GossipAdvertise: file.GossipAdvertise,
		HTTP: file.HTTP, Socket: file.Socket,
		Network: netx.System{}, Logger: m.logger,
	}
	if !fresh {
		return nil
	}
	if err := server.Init(m.config, server.InitOptions{ClusterName: "dev", TrustDomain: "dev"}); err != nil {
		return err
	}
	return os.WriteFile(path, config.EncodeServer(file), 0o600)
}

// StartServer starts the server and waits until it can be written to.
func (m *Mesh) StartServer(ctx context.Context) error {
	s, err := server.New(m.config)
	if err != nil {
		return fmt.Errorf("the server: %w", err)
	}
	if err := s.Start(ctx); err != nil {
		return fmt.Errorf("starting the server: %w", err)
	}
	m.server = s
	select {
	case <-s.Ready():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the server: %w", ctx.Err())
	}
}

// StopServer stops the server; the hosts go on without it.
func (m *Mesh) StopServer() {
	if m.server != nil {
		m.server.Stop()
		m.server = nil
	}
}

// Stop stops all: callers first, so that nothing is refused for want of them.
func (m *Mesh) Stop() {
	for _, h := range m.Hosts {
		h.agent.Stop()
	}
	m.StopServer()
}

// Socket is the server's, for Admin.
func (m *Mesh) Socket() string { return m.config.Socket }

// Address is that of the server's TLS port.
func (m *Mesh) Address() string { return m.config.Listen }

func (m *Mesh) addHost(ctx context.Context, o Options, i int) (*Host, error) {
	name := fmt.Sprintf("%s-%d", o.Prefix, i+1)
	file, err := m.configureHost(ctx, o, i, name)
	if err != nil {
		return nil, err
	}
	joined, err := agent.Joined(file.DataDir)
	if err != nil {
		return nil, err
	}
	h := &Host{Name: name, Socket: file.Socket, HTTP: file.HTTP, DNS: file.DNS, loopback: file.Loopback, trust: joined.TrustDomain}
	if h.agent, err = agent.New(m.agentConfig(file, h)); err != nil {
		return nil, err
	}
	if err := h.agent.Start(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

func (m *Mesh) agentConfig(file config.Agent, h *Host) agent.Config {
	return agent.Config{
		Agent:   file,
		Network: netx.System{},
		Caller:  func(net.Conn) string { return h.caller() },
		Logger:  m.logger.With("host", file.Name),
	}
}

// configureHost reads the host's file, or has the host join and writes it.
func (m *Mesh) configureHost(ctx context.Context, o Options, i int, name string) (config.Agent, error) {
	dir := filepath.Join(m.dir, name)
	path := filepath.Join(dir, "agent.yaml")
	file, err := config.LoadAgent(path)
	if err != nil {
		return file, err
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		if i == 0 {
			file.HTTP, file.DNS = cmp.Or(o.HTTP, file.HTTP), cmp.Or(o.DNS, file.DNS)
		}
		return file, err
	}
	usual := file
	ports, err := freePorts(3)
	if err != nil {
		return file, err
	}
	file.Name, file.DataDir, file.Socket = name, filepath.Join(dir, "agent"), filepath.Join(dir, "agent.sock")
	file.ServicesDir, file.Loopback = filepath.Join(dir, "services.d"), loopback(i)
	file.Advertise, file.Inbound = "127.0.0.1", ports[0]
	file.DNS, file.HTTP = ports[1], ports[2]
	if i == 0 {
		file.HTTP, file.DNS = cmp.Or(o.HTTP, usual.HTTP), cmp.Or(o.DNS, usual.DNS)
	}
	if err := os.MkdirAll(file.ServicesDir, 0o700); err != nil {
		return file, fmt.Errorf("making the host's folder: %w", err)
	}
	if err := m.join(ctx, file); err != nil {
		return file, err
	}
	return file, os.WriteFile(path, config.EncodeAgent(file), 0o600)
}

func (m *Mesh) join(ctx context.Context, file config.Agent) error {
	admin, err := client.Dial(ctx, m.Socket())
	if err != nil {
		return err
	}
	defer admin.Close()
	token, err := admin.Admin().CreateToken(ctx, &apiv1.CreateTokenRequest{AllowedNames: []string{file.Name}})
	if err != nil {
		return err
	}
	_, err = agent.Join(ctx, agent.Config{Agent: file, Network: netx.System{}, Logger: m.logger}, token.GetToken())
	return err
}

// Declare adds a service to the host and returns the address at which callers
// on this very host reach it.
func (h *Host) Declare(ctx context.Context, d *apiv1.Declaration) (string, error) {
	local, err := client.Dial(ctx, h.Socket)
	if err != nil {
		return "", err
	}
	defer local.Close()
	reply, err := local.Local().AddService(ctx, &apiv1.AddServiceRequest{Declaration: d})
	if err != nil {
		return "", err
	}
	return reply.GetAddress(), nil
}

// Address is where callers on this host reach a service.
func (h *Host) Address(s *apiv1.ServiceSlice, port uint32) (string, error) {
	address, ok := mesh.VirtualAddress(h.loopback, s.GetVip())
	if !ok {
		return "", fmt.Errorf("service %s has no room in %s", s.GetName(), h.loopback)
	}
	return netip.AddrPortFrom(address, uint16(port)).String(), nil
}

// caller is who calls from this host. All callers are one process or one user
// here, and the kernel cannot tell them apart as it does systemd units: so a
// host that runs one service calls as that service.
func (h *Host) caller() string {
	if names := h.agent.Services(); len(names) == 1 {
		return mesh.ServiceIdentity(h.trust, names[0]).String()
	}
	return mesh.HostIdentity(h.trust, h.Name).String()
}

// freePorts finds loopback addresses that nobody listens on just now.
func freePorts(n int) ([]string, error) {
	found := make([]string, 0, n)
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		defer l.Close() // held until all are found, so that they differ
		found = append(found, l.Addr().String())
	}
	return found, nil
}
