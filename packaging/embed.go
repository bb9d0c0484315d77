// Package packaging holds the files that a package of meshd installs, so that
// a bare binary can set up its host in the same way.
package packaging

import _ "embed"

// Units of the service manager, for /usr/lib/systemd/system.
var (
	//go:embed meshd-server.service
	ServerUnit []byte
	//go:embed meshd-agent.service
	AgentUnit []byte
)

// Executable is where the units expect the binary.
const Executable = "/usr/bin/meshd"

var (
	// Sysusers creates the user meshd, for /usr/lib/sysusers.d/meshd.conf.
	//go:embed sysusers.conf
	Sysusers []byte
	// Tmpfiles creates meshd's directories, for /usr/lib/tmpfiles.d/meshd.conf.
	//go:embed tmpfiles.conf
	Tmpfiles []byte
	// Resolved sends queries for .mesh to the agent, for
	// /etc/systemd/resolved.conf.d/meshd.conf.
	//go:embed resolved.conf
	Resolved []byte
)
