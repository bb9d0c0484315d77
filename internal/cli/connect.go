package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
)

// A write goes to the leader, and a leader is elected within seconds.
const callTimeout = 15 * time.Second

var (
	socketDir    = filepath.Dir(client.AgentSocket)
	serverSocket = filepath.Base(client.ServerSocket)
	agentSocket  = filepath.Base(client.AgentSocket)
)

func socketFlag() cli.Flag {
	return &cli.StringFlag{Name: "socket", EnvVars: []string{client.SocketEnv}, Value: socketDir,
		Usage: "the `PATH` of meshd's unix socket, or of a folder with server.sock and agent.sock"}
}

// socketPath gives the first of the named sockets that is in the folder asked
// for; what is no folder is the socket itself.
func socketPath(c *cli.Context, names ...string) string {
	path := c.String("socket")
	if info, err := os.Stat(path); path != socketDir && (err != nil || !info.IsDir()) {
		return path
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(path, name)); err == nil {
			return filepath.Join(path, name)
		}
	}
	return filepath.Join(path, names[len(names)-1])
}

// An adminCall is what a command needs to ask about the mesh or to change it.
type adminCall struct {
	ctx   context.Context
	admin apiv1.AdminClient
}

// askMesh calls the server that --server names, else a server of this host if
// there is one, else the agent, which passes questions on. doing says in a few
// words what the call is for.
func askMesh(c *cli.Context, doing string, call func(*adminCall) error) error {
	return withMesh(c, callTimeout, func(ctx context.Context, cl *client.Client) error {
		err := remoteFailure(c, rpcFailure(doing, false, call(&adminCall{ctx, cl.Admin()})))
		if filepath.Base(cl.Socket()) == agentSocket {
			return err // it has asked all servers that it can reach
		}
		return hintStale(c, err)
	})
}

// changeMesh does the same for a call that changes something.
func changeMesh(c *cli.Context, doing string, call func(*adminCall) error) error {
	return withMesh(c, callTimeout, func(ctx context.Context, cl *client.Client) error {
		return remoteFailure(c, rpcFailure(doing, true, call(&adminCall{ctx, cl.Admin()})))
	})
}

func withMesh(c *cli.Context, timeout time.Duration, call func(context.Context, *client.Client) error) error {
	ctx, cancel := context.WithTimeout(c.Context, timeout)
	defer cancel()
	if server := global(c, "server"); server != "" {
		return withRemote(ctx, c, server, call)
	}
	return withClient(ctx, socketPath(c, serverSocket, agentSocket), call)
}

// A localCall is what a command needs to deal with this host's agent.
type localCall struct {
	ctx   context.Context
	local apiv1.LocalClient
}

// askHost calls the agent of this host.
func askHost(c *cli.Context, doing string, call func(*localCall) error) error {
	return withHost(c, func(ctx context.Context, cl *client.Client) error {
		return rpcFailure(doing, false, call(&localCall{ctx, cl.Local()}))
	})
}

// changeHost does the same for a call that changes something.
func changeHost(c *cli.Context, doing string, call func(*localCall) error) error {
	return withHost(c, func(ctx context.Context, cl *client.Client) error {
		return rpcFailure(doing, true, call(&localCall{ctx, cl.Local()}))
	})
}

func withHost(c *cli.Context, call func(context.Context, *client.Client) error) error {
	ctx, cancel := context.WithTimeout(c.Context, callTimeout)
	defer cancel()
	return withClient(ctx, socketPath(c, agentSocket), call)
}

func withClient(ctx context.Context, path string, call func(context.Context, *client.Client) error) error {
	cl, err := client.Dial(ctx, path)
	if err != nil {
		return socketFailure(path, err)
	}
	defer cl.Close()
	return call(ctx, cl)
}

func socketFailure(path string, err error) error {
	f := &failure{what: "cannot reach meshd at " + path, cause: err}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		f.cause = errno
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		f.next = "run the command as root: sudo meshd ..."
	case filepath.Dir(path) == socketDir:
		f.next = "see whether it runs: systemctl status meshd-agent meshd-server\n" +
			"on a host that is in no mesh yet: meshd join TOKEN, or meshd init on the first one"
	default:
		f.next = "give the right path: --socket PATH, or the environment variable " + client.SocketEnv
	}
	return f
}
