package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/meshd/meshd/internal/mesh"
)

// Where packages put the files of the daemons.
const (
	DefaultServerFile = "/etc/meshd/server.yaml"
	DefaultAgentFile  = "/etc/meshd/agent.yaml"
)

// Server is the configuration of a server, /etc/meshd/server.yaml.
type Server struct {
	Name            string     // of the server; empty means HostName
	DataDir         string     // its state
	Listen          string     // TLS port for servers, agents and operators
	Advertise       string     // host:port at which others reach Listen; empty means found from the host's addresses
	GossipListen    string     // tcp and udp, among servers
	GossipAdvertise string     // host:port at which others reach GossipListen; empty means found
	HTTP            string     // metrics and health, on loopback
	Socket          string     // for operators on this host
	LogLevel        slog.Level // debug, info, warn or error
	Backup          Backup
}

// Backup is how a server makes snapshots of the mesh's state while it leads.
type Backup struct {
	Dir   string        // where to; empty means none are made
	Every time.Duration // how often, 1 min to 30 days
	Keep  int           // how many of them
}

// DefaultServer is what a server runs with when its file says nothing.
func DefaultServer() Server {
	return Server{
		DataDir:      "/var/lib/meshd/server",
		Listen:       ":7300",
		GossipListen: ":7301",
		HTTP:         "127.0.0.1:7302",
		Socket:       "/run/meshd/server.sock",
		LogLevel:     slog.LevelInfo,
		Backup:       Backup{Every: 24 * time.Hour, Keep: 7},
	}
}

func (s *Server) settings() []setting {
	return []setting{
		plainSetting("name", &s.Name, mesh.CheckName, "use 1 to 63 characters of a-z, 0-9 and, inside, -"),
		plainSetting("data_dir", &s.DataDir, checkAbsolute, "give a full path, such as /var/lib/meshd/server"),
		plainSetting("listen", &s.Listen, checkListen, `write ":7300" for all addresses of the host, or ADDRESS:PORT`),
		plainSetting("advertise", &s.Advertise, checkHostPort, "write HOST:PORT, as the other hosts reach it"),
		plainSetting("gossip_listen", &s.GossipListen, checkListen, `write ":7301" for all addresses of the host, or ADDRESS:PORT`),
		plainSetting("gossip_advertise", &s.GossipAdvertise, checkHostPort, "write HOST:PORT, as the other servers reach it"),
		plainSetting("http", &s.HTTP, checkLoopback, "write an address of this host alone, such as 127.0.0.1:7302"),
		plainSetting("socket", &s.Socket, checkAbsolute, "give a full path, such as /run/meshd/server.sock"),
		typedSetting("log_level", &s.LogLevel, nil, "use debug, info, warn or error"),
		plainSetting("backup.dir", &s.Backup.Dir, checkAbsolute, "give a full path, such as /var/lib/meshd/server-backup"),
		durationSetting("backup.every", &s.Backup.Every, time.Minute, 30*24*time.Hour, "use 1m to 720h, such as 24h"),
		numberSetting("backup.keep", &s.Backup.Keep, 1, 1000, "use 1 to 1000"),
	}
}

// Agent is the configuration of an agent, /etc/meshd/agent.yaml.
type Agent struct {
	Name        string       // of the host; empty means HostName
	DataDir     string       // its state
	Advertise   string       // IP address at which other agents reach the host; empty means found
	Inbound     string       // mTLS from other agents
	DNS         string       // udp and tcp
	HTTP        string       // metrics and health, on loopback
	Socket      string       // for people and tools on this host
	Loopback    netip.Prefix // where services have their addresses on this host
	ServicesDir string       // declarations, *.yaml
	Uses        string       // services that the host always wants to know all about, separated by commas
	LogLevel    slog.Level   // debug, info, warn or error
}

// DefaultAgent is what an agent runs with when its file says nothing.
func DefaultAgent() Agent {
	return Agent{
		DataDir:     "/var/lib/meshd/agent",
		Inbound:     ":7443",
		DNS:         "127.0.0.1:8600",
		HTTP:        "127.0.0.1:8500",
		Socket:      "/run/meshd/agent.sock",
		Loopback:    mesh.DefaultLoopback,
		ServicesDir: "/etc/meshd/services.d",
		LogLevel:    slog.LevelInfo,
	}
}

func (a *Agent) settings() []setting {
	return []setting{
		plainSetting("name", &a.Name, mesh.CheckName, "use 1 to 63 characters of a-z, 0-9 and, inside, -"),
		plainSetting("data_dir", &a.DataDir, checkAbsolute, "give a full path, such as /var/lib/meshd/agent"),
		plainSetting("advertise", &a.Advertise, checkAddress, "write the host's IP address, as the other hosts reach it"),
		plainSetting("inbound", &a.Inbound, checkListen, `write ":7443" for all addresses of the host, or ADDRESS:PORT`),
		plainSetting("dns", &a.DNS, checkListen, "write ADDRESS:PORT, such as 127.0.0.1:8600"),
		plainSetting("http", &a.HTTP, checkLoopback, "write an address of this host alone, such as 127.0.0.1:8500"),
		plainSetting("socket", &a.Socket, checkAbsolute, "give a full path, such as /run/meshd/agent.sock"),
		typedSetting("loopback", &a.Loopback, checkLoopbackRange, "choose a part of 127.0.0.0/8, such as 127.128.0.0/9"),
		plainSetting("uses", &a.Uses, checkNames, `write the services' names separated by commas, such as "orders, billing"`),
		plainSetting("services_dir", &a.ServicesDir, checkAbsolute, "give a full path, such as /etc/meshd/services.d"),
		typedSetting("log_level", &a.LogLevel, nil, "use debug, info, warn or error"),
	}
}

// LoadServer reads a server's file; one that does not exist means the defaults.
func LoadServer(path string) (Server, error) {
	s := DefaultServer()
	return s, load(path, s.settings())
}

// LoadAgent reads an agent's file; one that does not exist means the defaults.
func LoadAgent(path string) (Agent, error) {
	a := DefaultAgent()
	return a, load(path, a.settings())
}

// EncodeServer writes what differs from the defaults, so that a default that
// changes reaches the hosts that never asked for another.
func EncodeServer(s Server) []byte {
	defaults := DefaultServer()
	return encodeSettings(s.settings(), defaults.settings())
}

// EncodeAgent writes what differs from the defaults.
func EncodeAgent(a Agent) []byte {
	defaults := DefaultAgent()
	return encodeSettings(a.settings(), defaults.settings())
}

func load(path string, settings []setting) error {
	data, err := ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	return decodeSettings(path, data, settings)
}

func decodeSettings(file string, data []byte, settings []setting) error {
	src, bodies, err := parse(file, data)
	if err != nil {
		return err
	}
	d := &decoder{src: src}
	if len(bodies) > 1 {
		d.add(bodies[1], "leave one document in it", "the file holds several YAML documents")
	}
	if len(bodies) > 0 {
		d.settings(d.entries(bodies[0], "the configuration"), settings)
	}
	return d.err()
}

func encodeSettings(settings, defaults []setting) []byte {
	e := &encoder{}
	e.out.WriteString("# What is not set here has its default.\n")
	group := ""
	for i, s := range settings {
		v := s.get()
		if v == defaults[i].get() {
			continue
		}
		within, key, nested := strings.Cut(s.key, ".")
		if !nested {
			e.line(0, s.key, e.quote(v))
			continue
		}
		if within != group {
			group = within
			fmt.Fprintf(&e.out, "%s:\n", group)
		}
		e.line(2, key, e.quote(v))
	}
	return bytes.Clone(e.out.Bytes())
}

// HostName is the host's own name as a mesh can use it: its first label, in
// lower case.
func HostName() (string, error) {
	full, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("finding the host's name: %w", err)
	}
	name, _, _ := strings.Cut(strings.ToLower(full), ".")
	if err := mesh.CheckName(name); err != nil {
		return "", fmt.Errorf("the host's name %q cannot be used: %w; set name: in the configuration", full, err)
	}
	return name, nil
}

// UsedServices are the services that Uses names.
func (a Agent) UsedServices() (names []string) {
	for name := range strings.SplitSeq(a.Uses, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func checkNames(s string) error {
	for _, name := range (Agent{Uses: s}).UsedServices() {
		if err := mesh.CheckName(name); err != nil {
			return err
		}
	}
	return nil
}

func checkAbsolute(s string) error {
	if !filepath.IsAbs(s) {
		return fmt.Errorf("%q is not a full path", s)
	}
	return nil
}
