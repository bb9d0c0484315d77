// Package control is an agent's stream to one server: the host's lease and
// registrations go up, its slice of the mesh comes down.
package control

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/agent/slice"
	apiv1 "github.com/meshd/meshd/api/v1"
)

// Config of a Client.
type Config struct {
	// Dial makes a connection to the server at address (host:port) that proves
	// both sides' identities. It need not wait for the connection.
	Dial func(address string) (*grpc.ClientConn, error)
	// Servers known at start, host:port.
	Servers []string
	// SaveServers is told when a server named other servers than were known.
	SaveServers func([]string)
	// Hello introduces this host; the slice version is filled in.
	Hello *apiv1.Hello
	// Generation is the lowest authority generation among the certificates that
	// the host uses; nil means that it is not known.
	Generation func() uint64
	// Slice that the host held when it stopped last.
	Slice  *slice.Slice
	Logger *slog.Logger
}

// A Client keeps a stream open to one server at a time, whichever answers. Its
// methods may be called concurrently.
type Client struct {
	cfg     Config
	log     *slog.Logger
	changes chan struct{} // slice changes
	cancel  context.CancelFunc
	done    chan struct{}

	mu        sync.Mutex
	changed   chan struct{} // closed and made anew at every change of what follows
	servers   []string
	session   *session // nil when cut off
	slice     *slice.Slice
	behind    behind
	interest  *apiv1.Interest
	resync    bool // the slice is not to be built upon
	ack       *apiv1.Ack
	wanted    *apiv1.Registrations // nil until the first Register
	answered  uint64               // sequence
	refusal   *RefusedError        // of the answered one, nil if all were accepted
	leaving   bool
	lastError error
	ahead     time.Duration // see Clock
}

// New makes a client; Start connects it.
func New(cfg Config) *Client {
	return &Client{
		cfg: cfg, log: cfg.Logger,
		changes: make(chan struct{}, 1),
		changed: make(chan struct{}),
		done:    make(chan struct{}),
		servers: slices.Clone(cfg.Servers),
		slice:   cfg.Slice,
	}
}

// Start begins to look for a server and returns at once.
func (c *Client) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	go c.run(ctx)
}

// Stop ends the stream without a goodbye: the host's lease runs out unless it
// is back in time. It returns when everything that Start began has ended.
func (c *Client) Stop() {
	c.cancel()
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	c.behind.stop()
}

// Slice is the newest slice that came, or the one held at start.
func (c *Client) Slice() *slice.Slice {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slice
}

// Changes has a value after the slice changed. Several changes may show as one.
func (c *Client) Changes() <-chan struct{} { return c.changes }

// Ack tells the servers which slice version the host runs, and what of it could
// not be put to work.
func (c *Client) Ack(version uint64, problems []string) {
	ack := &apiv1.Ack{Version: version, Problems: problems}
	if c.cfg.Generation != nil {
		ack.AuthorityGeneration = c.cfg.Generation()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if behind := c.behind.slice; behind != nil {
		ack.Version = behind.Version // it is what the server waits for
	}
	if !proto.Equal(c.ack, ack) {
		c.ack = ack
		c.wake()
	}
}

// A Status says how a client stands with the servers.
type Status struct {
	Server string // name of the one that holds the stream, empty when cut off
	Err    error  // why the last attempt failed, nil while connected
}

// Status as it is now.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		return Status{Server: c.session.server}
	}
	return Status{Err: c.lastError}
}

// Leave says goodbye, so that the host counts as left and not as lost, and ends
// the stream. It fails when no server could be told before ctx ended.
func (c *Client) Leave(ctx context.Context) error {
	if _, err := c.connected(ctx); err != nil {
		return err
	}
	c.update(func() { c.leaving = true })
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return errors.New("the server did not confirm that this host left")
	}
}

// update changes the client's state and wakes whoever waits for it.
func (c *Client) update(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	c.wake()
}

// wake wakes whoever waits for the state, which is locked.
func (c *Client) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// wait blocks until cond holds, which it calls with the state locked.
func (c *Client) wait(ctx context.Context, cond func() bool) error {
	for {
		c.mu.Lock()
		ok, changed := cond(), c.changed
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
