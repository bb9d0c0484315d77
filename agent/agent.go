// Package agent assembles the agent of one host: the stream to the servers, what
// the host runs, its certificates, the proxy and the DNS server.
package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/meshd/meshd/agent/caller"
	"github.com/meshd/meshd/agent/cert"
	"github.com/meshd/meshd/agent/control"
	"github.com/meshd/meshd/agent/interest"
	"github.com/meshd/meshd/agent/local"
	"github.com/meshd/meshd/agent/slice"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/dns"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/telemetry"
	"github.com/meshd/meshd/internal/version"
	"github.com/meshd/meshd/proxy"
)

// drainTime is how long calls may take to finish when the agent stops.
const drainTime = 5 * time.Second

// An Agent runs on every host of a mesh.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	member  *Membership
	address netip.Addr // of this host
	metrics *prometheus.Registry

	callers *caller.Resolver // nil when callers are told by other means, or cannot be
	// callerProblem is why they cannot be.
	callerProblem string
	certs         *cert.Manager
	local         *local.Local
	control       *control.Client
	links         *grpcx.Links // to servers
	cache         *slice.Cache
	interest      *interest.Set
	proxy         *proxy.Proxy
	dns           *dns.Server

	stops     []func() // what undoes the start, in its order
	ready     chan struct{}
	work      work
	declaring sync.Mutex // one change of what is declared at a time

	saving sync.Mutex
	saved  Membership // as it is on disk
}

// New makes the agent of a host that has joined a mesh.
func New(cfg Config) (*Agent, error) {
	cfg = cfg.complete()
	member, err := Joined(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	if cfg.Name != "" && cfg.Name != member.Name {
		return nil, fmt.Errorf("this host joined the mesh as %s and is now configured to be %s: set name back, or remove %s and join anew", member.Name, cfg.Name, cfg.DataDir)
	}
	build := version.Get()
	return &Agent{
		cfg: cfg, log: cfg.Logger.With("node", member.Name), member: member,
		metrics: telemetry.NewRegistry(build.Version, build.Commit),
		ready:   make(chan struct{}),
		work:    newWork(),
		links:   grpcx.NewLinks(),
	}, nil
}

// Membership is what mesh the agent's host is in.
func (a *Agent) Membership() *Membership { return a.member }

// Ready is closed once the agent does its work: by what the servers sent, or by
// what it kept from before.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Start brings everything up. Servers need not be there. After an error nothing
// is left running.
func (a *Agent) Start(ctx context.Context) error {
	steps := []struct {
		what  string
		start func(context.Context) error
	}{
		{"finding this host's address", a.findAddress},
		{"opening certificates", a.openCertificates},
		{"telling callers apart", a.openCallers},
		{"following what this host runs", a.startLocal},
		{"reading what this host uses", a.openInterest},
		{"starting the proxy", a.startProxy},
		{"starting DNS", a.startDNS},
		{"reading what is known of the mesh", a.openControl},
		{"connecting to the servers", a.startControl},
		{"opening the agent's interfaces", a.startInterfaces},
	}
	for _, step := range steps {
		if err := step.start(ctx); err != nil {
			a.Stop()
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	a.log.Info("agent is up", "cluster", a.member.ClusterName, "address", a.address)
	return nil
}

// Stop ends everything, what was started last first, and waits for it. The host
// counts as lost when it is not back soon.
func (a *Agent) Stop() {
	for len(a.stops) > 0 {
		last := len(a.stops) - 1
		a.stops[last]()
		a.stops = a.stops[:last]
	}
}

// Leave tells the servers that the host goes for good; what it ran is not called
// any more. Stop it afterwards.
func (a *Agent) Leave(ctx context.Context) error { return a.control.Leave(ctx) }

// Services names the services that the host declares, in order.
func (a *Agent) Services() []string { return services(a.local.State()) }

// Reload reads the declarations again.
func (a *Agent) Reload() { a.local.Reload() }

func (a *Agent) onStop(stop func()) { a.stops = append(a.stops, stop) }

// findAddress falls back on the address of last time, so that an agent starts
// before the network does.
func (a *Agent) findAddress(ctx context.Context) error {
	addr, err := a.cfg.address(ctx, a.member.Servers)
	if err != nil {
		if addr, err = netip.ParseAddr(a.member.Address); err != nil {
			return err
		}
		a.log.Warn("this host's address was not found; that of the last time is taken", "address", addr)
	}
	a.address = addr
	if a.member.Address != addr.String() {
		a.member.Address = addr.String()
		err = a.member.save(a.cfg.DataDir)
	}
	a.saved = *a.member
	return err
}

func (a *Agent) openCertificates(context.Context) (err error) {
	a.certs, err = cert.Open(cert.Config{
		Dir: certDir(a.cfg.DataDir), TrustDomain: a.member.TrustDomain, Host: a.member.Name,
		Signer: signer{a}, Logger: a.log,
	})
	if err != nil {
		return err
	}
	return a.certs.SetRoots(a.member.Roots)
}

// signer puts off the question who signs until there is a stream to ask on.
type signer struct{ agent *Agent }

func (s signer) Sign(ctx context.Context, r *apiv1.SignRequest) (*apiv1.SignReply, error) {
	return s.agent.control.Sign(ctx, r)
}

// openCallers makes do without when the kernel cannot be asked: every caller
// counts as the host then, and never as a service.
func (a *Agent) openCallers(context.Context) error {
	host := a.member.identity().String()
	if a.cfg.Caller != nil {
		return nil
	}
	r, err := caller.New(caller.Config{HostIdentity: host, Logger: a.log})
	if err != nil {
		a.log.Error("callers cannot be told apart; all count as the host", "error", err)
		a.callerProblem = fmt.Sprintf("callers on this host cannot be told apart, so that all count as the host: %v", err)
		a.cfg.Caller = func(net.Conn) string { return host }
		return nil
	}
	a.callers, a.cfg.Caller = r, r.Identify
	// Last of all: connections that are being closed may still ask.
	a.onStop(func() { r.Close() })
	return nil
}

func (a *Agent) startLocal(context.Context) (err error) {
	cfg := local.Config{
		NodeID: a.member.NodeID, TrustDomain: a.member.TrustDomain,
		DeclaredDir: declaredDir(a.cfg.DataDir), ServicesDir: a.cfg.ServicesDir,
		Network: a.cfg.Network, Logger: a.log,
	}
	if a.callers != nil {
		cfg.ListenerUnit = a.callers.ListenerUnit
	}
	if a.local, err = local.Open(cfg); err != nil {
		return err
	}
	a.local.Start()
	a.onStop(a.local.Stop)
	return nil
}

func (a *Agent) startProxy(context.Context) error {
	a.proxy = proxy.New(proxy.Config{
		Network: a.cfg.Network, Identities: a.certs, Caller: a.cfg.Caller,
		HostIdentity: a.member.identity().String(), Inbound: a.cfg.Inbound,
		Logger: a.log, Metrics: a.metrics, Await: a.await,
	})
	// After the stream ended, so that others stop to call here.
	a.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		if err := a.proxy.Stop(ctx); err != nil {
			a.log.Warn("calls were cut", "error", err)
		}
	})
	return a.proxy.Start()
}

func (a *Agent) startDNS(ctx context.Context) error {
	a.dns = dns.New(dns.Config{Network: a.cfg.Network, Listen: a.cfg.DNS, Logger: a.log, Metrics: a.metrics, Await: a.await})
	if err := a.dns.Start(ctx); err != nil {
		return err
	}
	a.onStop(a.dns.Stop)
	return nil
}

// openControl begins with what was known when the agent stopped last, and has
// it at work before any server is asked.
func (a *Agent) openControl(context.Context) error {
	held, err := slice.Load(slicePath(a.cfg.DataDir))
	if err != nil {
		a.log.Warn("what was known of the mesh is lost; calls wait for a server", "error", err)
	}
	if held == nil {
		held = slice.Empty()
	}
	a.control = control.New(control.Config{
		Dial: a.dialServer, Servers: a.member.Servers, SaveServers: a.saveServers,
		Hello: a.hello(), Generation: a.certs.Generation, Slice: held, Logger: a.log,
	})
	a.control.SetInterest(a.interest.Wanted(), false)
	a.cache = slice.NewCache(slicePath(a.cfg.DataDir), a.log)
	a.onStop(a.cache.Close)
	a.certs.Adopt(services(a.local.State()))
	a.rebuild(false)
	return nil
}

func (a *Agent) startControl(context.Context) error {
	a.control.Start()
	a.onStop(a.control.Stop)
	a.certs.Start()
	a.onStop(a.certs.Stop)
	ctx, cancel := context.WithCancel(context.Background())
	a.work.running.Go(func() { a.follow(ctx) })
	a.work.running.Go(func() { a.certify(ctx) })
	a.onStop(func() { cancel(); a.work.running.Wait() })
	return nil
}

func (a *Agent) hello() *apiv1.Hello {
	return &apiv1.Hello{
		ClusterId: a.member.ClusterID, Version: version.Version(),
		Address: a.address.String(), InboundPort: uint32(a.cfg.inboundPort()),
	}
}

func (a *Agent) dialServer(address string) (*grpc.ClientConn, error) {
	host := a.member.identity().String()
	return grpcx.Dial(a.cfg.Network, address, grpcx.TLS{
		TrustDomain: a.member.TrustDomain,
		Roots:       a.certs.Roots,
		Certificate: func() *tls.Certificate { return a.certs.Certificate(host) },
		Links:       a.links,
	})
}

// saveServers keeps where the servers are for the next start.
func (a *Agent) saveServers(servers []string) {
	a.saveMember("the servers' addresses", func(m *Membership) { m.Servers = servers })
}

// saveRoots keeps the trust anchors, should the slice be lost.
func (a *Agent) saveRoots(roots [][]byte) {
	a.saveMember("the mesh's trust anchors", func(m *Membership) { m.Roots = roots })
}

func (a *Agent) saveMember(what string, change func(*Membership)) {
	a.saving.Lock()
	defer a.saving.Unlock()
	change(&a.saved)
	if err := a.saved.save(a.cfg.DataDir); err != nil {
		a.log.Warn(what+" were not kept on disk", "error", err)
	}
}
