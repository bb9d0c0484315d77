package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshd/meshd/agent"
	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/host"
	"github.com/meshd/meshd/internal/mesh"
)

func setupFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "name", Usage: "the host's `NAME` in the mesh", DefaultText: "its host name"},
		&cli.StringFlag{Name: "advertise", Usage: "the `IP` address at which the other hosts reach this one", DefaultText: "that of the default route"},
		&cli.BoolFlag{Name: "no-resolver", Usage: "leave systemd-resolved alone"},
	}
}

// A setup makes this host a member of a mesh, step by step.
type setup struct {
	c       *cli.Context
	ctx     context.Context
	host    *host.Host
	name    string
	address netip.Addr
	server  config.Server
	agent   config.Agent
	legacy  *legacy // nil unless a mesh is restored
	undo    []func(context.Context)
}

// beginSetup checks everything that can be checked before anything is done.
func beginSetup(c *cli.Context) (*setup, error) {
	if err := requireRoot(c); err != nil {
		return nil, err
	}
	h, err := host.New()
	if err != nil {
		return nil, err
	}
	if err := h.CheckSystemd(); err != nil {
		return nil, err
	}
	s := &setup{c: c, ctx: c.Context, host: h}
	if err := s.loadFiles(); err != nil {
		return nil, err
	}
	return s, s.identify()
}

func requireRoot(c *cli.Context) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return &failure{what: c.Command.HelpName + " must be run by root",
		cause: errors.New("it changes the user meshd, directories and systemd units of this host"),
		next:  "sudo " + c.Command.HelpName + " ...\nto try meshd without root: meshd dev"}
}

// loadFiles takes what an administrator or a package has configured before.
func (s *setup) loadFiles() (err error) {
	if s.server, err = config.LoadServer(config.DefaultServerFile); err != nil {
		return configFailure(config.DefaultServerFile, err)
	}
	if s.agent, err = config.LoadAgent(config.DefaultAgentFile); err != nil {
		return configFailure(config.DefaultAgentFile, err)
	}
	return nil
}

// identify finds the host's name and address: by option, file, or itself.
func (s *setup) identify() error {
	s.name = cmp.Or(s.c.String("name"), s.agent.Name, s.server.Name)
	if s.name == "" {
		name, err := config.HostName()
		if err != nil {
			return &failure{what: "this host's name is no name for a mesh", cause: err, next: "name it: --name NAME"}
		}
		s.name = name
	}
	if err := mesh.CheckName(s.name); err != nil {
		return &usageError{err.Error(), "choose another: --name NAME"}
	}
	address, err := ownAddress(cmp.Or(s.c.String("advertise"), s.agent.Advertise))
	if err != nil {
		var h *host.Error
		if errors.As(err, &h) {
			return err
		}
		return &usageError{err.Error(), "give the address of this host in the network of the others: --advertise IP"}
	}
	s.address = address
	return s.complete()
}

// complete writes name and address into what the files leave open.
func (s *setup) complete() (err error) {
	s.server.Name, s.agent.Name = cmp.Or(s.server.Name, s.name), cmp.Or(s.agent.Name, s.name)
	s.agent.Advertise = cmp.Or(s.agent.Advertise, s.address.String())
	if s.server.Advertise == "" {
		s.server.Advertise, err = advertised(s.address, s.server.Listen)
	}
	if s.server.GossipAdvertise == "" && err == nil {
		s.server.GossipAdvertise, err = advertised(s.address, s.server.GossipListen)
	}
	if err != nil {
		return configFailure(config.DefaultServerFile, err)
	}
	if s.server.Name != s.name || s.agent.Name != s.name {
		return s.contradiction("name", s.name)
	}
	if s.agent.Advertise != s.address.String() {
		return s.contradiction("advertise", s.address.String())
	}
	return nil
}

func (s *setup) contradiction(option, value string) error {
	return &usageError{fmt.Sprintf("--%s %s contradicts what %s or %s say", option, value, config.DefaultServerFile, config.DefaultAgentFile),
		"leave the option out, or correct the file"}
}

// prepareHost brings the host to where the services can run.
func (s *setup) prepareHost() error {
	if err := s.host.EnsureUser(s.ctx); err != nil {
		return err
	}
	if err := s.host.EnsureDirectories(); err != nil {
		return err
	}
	return s.host.EnsureUnits(s.ctx)
}

// startServer starts the server whose state was just made, and waits until it
// serves.
func (s *setup) startServer() error {
	if err := s.host.Own(s.server.DataDir); err != nil {
		return err
	}
	if err := s.writeConfig(config.DefaultServerFile, config.EncodeServer(s.server)); err != nil {
		return err
	}
	if err := s.host.Start(s.ctx, host.ServerUnit); err != nil {
		return err
	}
	return s.await("the server", host.ServerUnit, s.serverReady)
}

// writeConfig leaves alone a file that was there before: it says the same, and
// its comments are somebody's.
func (s *setup) writeConfig(path string, data []byte) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	s.undo = append(s.undo, func(context.Context) { os.Remove(path) })
	return s.host.WriteConfig(strings.TrimPrefix(path, host.ConfigDir+"/"), data)
}

// joinAgent makes this host an agent of the mesh that the token is from.
func (s *setup) joinAgent(token string) (*agent.Membership, error) {
	if _, err := s.host.EnsureState("agent"); err != nil {
		return nil, err
	}
	logger, _ := newLogger(s.c, s.agent.LogLevel)
	m, err := agent.Join(s.ctx, agent.Config{Agent: s.agent, Logger: logger}, token)
	if err != nil {
		return nil, &failure{what: "this host could not join the mesh", cause: err, effect: "its agent was not started"}
	}
	s.undo = append(s.undo, func(ctx context.Context) { os.RemoveAll(s.agent.DataDir) },
		func(ctx context.Context) { _ = s.host.Stop(ctx, host.AgentUnit) })
	if err := s.host.Own(s.agent.DataDir); err != nil {
		return nil, err
	}
	if err := s.writeConfig(config.DefaultAgentFile, config.EncodeAgent(s.agent)); err != nil {
		return nil, err
	}
	if err := s.host.Start(s.ctx, host.AgentUnit); err != nil {
		return nil, err
	}
	return m, s.await("the agent", host.AgentUnit, s.agentReady)
}

// joinOwnAgent does the same on a server's host, with a token for it alone.
func (s *setup) joinOwnAgent() error {
	token, err := s.createToken(&apiv1.CreateTokenRequest{Ttl: durationpb.New(10 * time.Minute), AllowedNames: []string{s.name}})
	if err != nil {
		return err
	}
	_, err = s.joinAgent(token)
	return err
}

func (s *setup) createToken(request *apiv1.CreateTokenRequest) (token string, err error) {
	err = withClient(s.ctx, s.server.Socket, func(ctx context.Context, cl *client.Client) error {
		reply, err := cl.Admin().CreateToken(ctx, request)
		token = reply.GetToken()
		return rpcFailure("create a join token", true, err)
	})
	return token, err
}

// rollBack takes back what was done, last thing first, and adds that to err.
func (s *setup) rollBack(err error) error {
	if len(s.undo) == 0 {
		return err
	}
	// The context of the command may have ended: that may be why.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), time.Minute)
	defer cancel()
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.undo[i](ctx)
	}
	f := asFailure(err)
	f.effect = "the mesh that was begun here is gone again, so that " + s.c.Command.HelpName + " can be repeated"
	return f
}
