package meshtest

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/meshd/meshd/agent"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/mesh"
)

// An Agent is that of one host, on which applications run too.
type Agent struct {
	*agent.Agent
	Name string
	Host *memnet.Host
	Uses string // as in its configuration

	mesh    *Mesh
	running bool
	stopped chan struct{} // closed when a crashed one has let go of its files

	mu      sync.Mutex
	speaker string // service that calls of this host are made by, "" for none
}

// StartAgent adds a host and lets it join with a token of its own. It returns
// when the agent is ready.
func (m *Mesh) StartAgent(name string) *Agent {
	m.T.Helper()
	a := m.NewAgent(name)
	a.Join()
	return a
}

// NewAgent adds a host; Join lets it join.
func (m *Mesh) NewAgent(name string) *Agent {
	return &Agent{Name: name, Host: m.Host(name), mesh: m}
}

// Join lets a host join with a token of its own. It returns when the agent is
// ready.
func (a *Agent) Join() {
	m := a.mesh
	m.T.Helper()
	if _, err := agent.Join(m.T.Context(), a.Config(), m.CreateToken(&apiv1.CreateTokenRequest{})); err != nil {
		m.T.Fatalf("joining %s: %v", a.Name, err)
	}
	m.Agents = append(m.Agents, a)
	m.T.Cleanup(a.Stop)
	a.Start()
}

// Config is what the agent runs with.
func (a *Agent) Config() agent.Config {
	cfg := agent.Config{Agent: config.DefaultAgent(), Network: a.Host, Caller: a.caller, Logger: a.mesh.log}
	cfg.Name, cfg.DataDir, cfg.ServicesDir = a.Name, a.mesh.Dir(a.Name, "agent"), a.mesh.Dir(a.Name, "services.d")
	cfg.Uses = a.Uses
	return cfg
}

// Start starts the agent on what is in its data directory, and waits until it is
// ready.
func (a *Agent) Start() {
	a.mesh.T.Helper()
	var err error
	if a.Agent, err = agent.New(a.Config()); err == nil {
		err = a.Agent.Start(a.mesh.T.Context())
	}
	if err != nil {
		a.mesh.T.Fatalf("starting the agent of %s: %v", a.Name, err)
	}
	a.running = true
	a.mesh.WaitFor("the agent of "+a.Name+" to be ready", func() bool {
		select {
		case <-a.Ready():
			return true
		default:
			return false
		}
	})
}

// Stop stops the agent in good order, if it runs.
func (a *Agent) Stop() {
	if a.stopped != nil {
		<-a.stopped
		a.stopped = nil
	}
	if a.running {
		a.running = false
		a.Agent.Stop()
	}
}

// Crash takes the whole host down, applications and all, without a word to
// anybody.
func (a *Agent) Crash() {
	a.mesh.Net.Crash(a.Host)
	a.running = false
	a.stopped = make(chan struct{})
	go func(process *agent.Agent, done chan struct{}) {
		defer close(done)
		process.Stop() // frees its files; nobody hears of it
	}(a.Agent, a.stopped)
}

// SpeakAs says who calls from this host from now on: a service, or "" for
// nobody in particular. It stands for what the kernel knows of processes.
func (a *Agent) SpeakAs(service string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.speaker = service
}

func (a *Agent) caller(net.Conn) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	domain := a.Membership().TrustDomain
	if a.speaker == "" {
		return mesh.HostIdentity(domain, a.Name).String()
	}
	return mesh.ServiceIdentity(domain, a.speaker).String()
}

// Add declares a service of this host.
func (a *Agent) Add(d *apiv1.Declaration) *apiv1.AddServiceReply {
	a.mesh.T.Helper()
	reply, err := a.AddService(a.mesh.T.Context(), d)
	if err != nil {
		a.mesh.T.Fatalf("adding %s on %s: %v", d.Name, a.Name, err)
	}
	return reply
}

// ServeHTTP runs an application on this host that answers HTTP on 127.0.0.1.
func (a *Agent) ServeHTTP(port int, h http.Handler) {
	a.mesh.T.Helper()
	server := &http.Server{Handler: h}
	a.listen(port, func(l net.Listener) { server.Serve(l) }, func() { server.Close() })
}

// ServeEcho runs an application on this host that sends back what it is sent
// over TCP on 127.0.0.1, after its greeting.
func (a *Agent) ServeEcho(port int, greeting string) {
	a.mesh.T.Helper()
	a.listen(port, func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.WriteString(c, greeting)
				io.Copy(c, c)
			}()
		}
	}, nil)
}

func (a *Agent) listen(port int, serve func(net.Listener), end func()) {
	a.mesh.T.Helper()
	l, err := a.Host.Listen(a.mesh.T.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		a.mesh.T.Fatalf("an application on %s: %v", a.Name, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(l)
	}()
	a.mesh.T.Cleanup(func() {
		l.Close()
		if end != nil {
			end()
		}
		<-done
	})
}

// Dial connects to NAME.mesh:PORT as an application of this host does.
func (a *Agent) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(host, ".mesh") {
		addrs, err := a.Lookup(ctx, host)
		if err != nil {
			return nil, err
		}
		if len(addrs) == 0 {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		host = addrs[0].String()
	}
	return a.Host.DialContext(ctx, network, net.JoinHostPort(host, port))
}

// Client calls as an application of this host does, each time by a connection of
// its own.
func (a *Agent) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: a.Dial, DisableKeepAlives: true}}
}
