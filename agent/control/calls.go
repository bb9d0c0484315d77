package control

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// callTimeout bounds one call to a server that answers the stream.
const callTimeout = 10 * time.Second

// Sign has the servers issue certificates. It waits until a server can be asked.
func (c *Client) Sign(ctx context.Context, r *apiv1.SignRequest) (*apiv1.SignReply, error) {
	conn, err := c.connected(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := apiv1.NewControlClient(conn).Sign(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("having certificates signed: %w", err)
	}
	return reply, nil
}

// Conn is the connection to the server that holds the stream, or nil when cut
// off. It stays good only as long as the stream does.
func (c *Client) Conn() grpc.ClientConnInterface {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return nil
	}
	return c.session.conn
}

// connected waits for a server.
func (c *Client) connected(ctx context.Context) (conn *grpc.ClientConn, err error) {
	err = c.wait(ctx, func() bool {
		if c.session != nil {
			conn = c.session.conn
		}
		return conn != nil
	})
	if err != nil {
		return nil, fmt.Errorf("no server can be reached: %w", err)
	}
	return conn, nil
}
