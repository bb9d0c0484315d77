package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/agent"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/host"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/server"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make a new mesh, with this host as its first",
		UsageText: "meshd init [OPTION]...\n\n" +
			"meshd init\n" +
			"meshd init --cluster-name shop --advertise 10.0.0.1\n" +
			"meshd init --trust-domain corp.example --ca-cert mesh-ca.pem --ca-key mesh-ca.key",
		Description: "Starts a server and an agent as systemd units and prints the line that the next\n" +
			"host joins with. A mesh begins here and nowhere else: other servers join it. With\n" +
			"--restore a mesh whose servers are all lost goes on: its hosts come back by\n" +
			"themselves if this host has an address that one of its servers had.",
		Category: setUp,
		Flags: append(append(setupFlags(), restoreFlags()...),
			&cli.StringFlag{Name: "cluster-name", Usage: "the `NAME` of the mesh, for people", DefaultText: "the trust domain"},
			&cli.StringFlag{Name: "trust-domain", Usage: "the `DOMAIN` in the identities of hosts and services; it cannot be changed later", DefaultText: "made up"},
			&cli.StringFlag{Name: "ca-cert", Usage: "take the authority in this `FILE`, a root or an intermediate certificate with all above it (PEM)", DefaultText: "a root is made"},
			&cli.StringFlag{Name: "ca-key", Usage: "the `FILE` with the private key of its first certificate (PEM, mode 0600)"}),
		Action: initAction,
	}
}

func initAction(c *cli.Context) error {
	if err := takesNoArguments(c); err != nil {
		return err
	}
	own, err := readBundle(c, "ca-cert", "ca-key")
	if err != nil {
		return err
	}
	legacy, err := readLegacy(c)
	if err != nil {
		return err
	}
	s, err := beginSetup(c)
	if err != nil {
		return err
	}
	s.legacy = legacy
	if err := refuseMember(s.agent.DataDir); err != nil && !legacy.keepsAgent(s.agent.DataDir) {
		return err
	}
	token, err := s.found(own)
	if err != nil {
		return s.rollBack(err)
	}
	resolver, err := s.resolver()
	if err != nil {
		return err
	}
	s.printFounded(token, resolver)
	return nil
}

// refuseMember makes sure that no host is taken from a mesh by mistake.
func refuseMember(dir string) error {
	m, err := agent.Joined(dir)
	if errors.Is(err, agent.ErrNotJoined) {
		return nil
	}
	if err != nil {
		return err
	}
	return &failure{
		what:   fmt.Sprintf("this host is in the mesh %s already, as %s", m.ClusterName, m.Name),
		effect: unchanged,
		next:   "see how it is: meshd status\nto take it out of that mesh first: meshd leave",
	}
}

// found makes the mesh and gives a token for the next host. When it fails,
// rollBack leaves the host as it was.
func (s *setup) found(own *pki.Bundle) (token string, err error) {
	if err := s.prepareHost(); err != nil {
		return "", err
	}
	logger, _ := newLogger(s.c, s.server.LogLevel)
	cfg, err := serverConfig(s.server, logger)
	if err != nil {
		return "", err
	}
	options := server.InitOptions{ClusterName: s.c.String("cluster-name"), TrustDomain: s.c.String("trust-domain"), Authority: own}
	if err := s.legacy.make(cfg, options); err != nil {
		return "", err
	}
	s.undo = append(s.undo, func(ctx context.Context) { os.RemoveAll(s.server.DataDir) },
		func(ctx context.Context) { _ = s.host.Stop(ctx, host.ServerUnit) })
	if err := s.startServer(); err != nil {
		return "", err
	}
	if !s.legacy.keepsAgent(s.agent.DataDir) {
		if err := s.joinOwnAgent(); err != nil {
			return "", err
		}
	}
	return s.createToken(&apiv1.CreateTokenRequest{})
}

// resolver has names below .mesh answered, and says in words how that went.
func (s *setup) resolver() (string, error) {
	if s.c.Bool("no-resolver") {
		return "left alone: have your resolver ask " + s.agent.DNS + " for the zone mesh", nil
	}
	installed, err := s.host.InstallResolver(s.ctx)
	if err != nil {
		return "", err
	}
	if !installed {
		return "not set up: systemd-resolved does not run here; have your resolver ask " + s.agent.DNS + " for the zone mesh", nil
	}
	return "NAME.mesh is answered through systemd-resolved", nil
}

func (s *setup) printFounded(token, resolver string) {
	t := &table{}
	t.row("mesh", s.legacy.made())
	t.row("server", s.name+" at "+s.server.Advertise)
	t.row("agent", s.name+" at "+s.address.String())
	t.row("names", resolver)
	_ = t.write(s.c.App.Writer)
	fmt.Fprintf(s.c.App.Writer, "\nOn the next host, once and within an hour:\n\n%s\n\n"+
		"For every further host:    meshd token create\n"+
		"For a further server:      meshd token create --server\n"+
		"To add a service here:     meshd service add NAME --port PORT\n", joinLine(token, false))
}
