package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/host"
	"github.com/meshd/meshd/server"
)

// leaveAsServer takes the server on this host, if there is one, out of its mesh:
// it hands over leadership, is removed, and its state and keys go.
func leaveAsServer(c *cli.Context) error {
	file, err := config.LoadServer(config.DefaultServerFile)
	if err != nil {
		return configFailure(config.DefaultServerFile, err)
	}
	name, there, err := server.Joined(file.DataDir)
	if err != nil || !there {
		return err
	}
	if err := giveUpServer(c, file.Socket, name); err != nil && !c.Bool("force") {
		f := asFailure(err)
		f.effect = "this host is still in its mesh, and its server goes on"
		f.next += "\nto leave all the same: meshd leave --force"
		return f
	}
	h, err := host.New()
	if err != nil {
		return err
	}
	if err := h.Stop(c.Context, host.ServerUnit); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(file.DataDir), removeIfThere(config.DefaultServerFile)); err != nil {
		return &failure{what: "the server's state could not be removed", cause: err, effect: "the server has left, and is stopped", next: "remove it by hand: rm -r " + file.DataDir}
	}
	fmt.Fprintf(c.App.Writer, "server %s left the mesh\n", name)
	return nil
}

// giveUpServer has the mesh go on without the server, and waits until that knows.
func giveUpServer(c *cli.Context, socket, name string) error {
	return withClient(c.Context, socket, func(ctx context.Context, cl *client.Client) error {
		_, err := cl.Admin().RemoveServer(ctx, &apiv1.RemoveServerRequest{Name: name, Force: c.Bool("force")})
		if err != nil {
			return rpcFailure("take server "+name+" out of the mesh", true, err)
		}
		for {
			reply, err := cl.Admin().Status(ctx, &apiv1.StatusRequest{})
			if err != nil || reply.Problem != "" {
				return rpcFailure("see whether server "+name+" has left", false, err)
			}
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
				return nil // it is removed; that it has not heard of it makes no difference now
			}
		}
	})
}
