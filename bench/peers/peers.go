// Package peers runs servers of meshd, Consul or etcd on this machine, each as a
// process of its own with its default settings, and writes to them.
package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A Cluster is some servers of one product.
type Cluster struct {
	Name    string
	product product
	servers []*Process
	writers []Writer // to each server, for Leader and Healthy
}

// A product is one kind of server.
type product interface {
	// start starts n servers from nothing with their data in dir.
	start(ctx context.Context, dir string, n int) ([]*Process, error)
	// dial makes a client of server i.
	dial(i int) (Writer, error)
	// leader is the number of the server that leads, asked of server i.
	leader(ctx context.Context, i int) (int, error)
}

// A Writer is a client of one server, with connections of its own.
type Writer interface {
	// Put stores a value of about 256 bytes under a key and returns when it is
	// acknowledged.
	Put(ctx context.Context, key, value string) error
	Close() error
}

// Start starts n servers of the product of that name: meshd, consul or etcd. bin
// is the folder of the binaries; dir gets a folder with data and logs.
func Start(ctx context.Context, name, bin, dir string, n int) (*Cluster, error) {
	c := &Cluster{Name: name}
	switch name {
	case "meshd":
		c.product = &meshd{bin: filepath.Join(bin, "meshd")}
	case "consul":
		c.product = &consul{bin: filepath.Join(bin, "consul")}
	case "etcd":
		c.product = &etcd{bin: filepath.Join(bin, "etcd")}
	default:
		return nil, fmt.Errorf("there is no peer %q: meshd, consul or etcd", name)
	}
	dir = filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if c.servers, err = c.product.start(ctx, dir, n); err == nil {
		err = c.dialAll()
	}
	if err == nil {
		err = c.WaitHealthy(ctx)
	}
	if err != nil {
		c.Stop()
		return nil, fmt.Errorf("starting %s: %w (logs are in %s)", name, err, dir)
	}
	return c, nil
}

func (c *Cluster) dialAll() error {
	for i := range c.servers {
		w, err := c.product.dial(i)
		if err != nil {
			return err
		}
		c.writers = append(c.writers, w)
	}
	return nil
}

// Dial makes a client of server i.
func (c *Cluster) Dial(i int) (Writer, error) { return c.product.dial(i) }

// Size is the number of servers.
func (c *Cluster) Size() int { return len(c.servers) }

// Server gives the process of server i.
func (c *Cluster) Server(i int) *Process { return c.servers[i] }

// Leader is the number of the server that leads, as the first that knows says.
func (c *Cluster) Leader(ctx context.Context) (int, error) {
	var errs []error
	for i := range c.servers {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		leader, err := c.product.leader(ctx, i)
		cancel()
		if err == nil {
			return leader, nil
		}
		errs = append(errs, err)
	}
	return 0, errors.Join(errs...)
}

// WaitHealthy waits until every server takes writes.
func (c *Cluster) WaitHealthy(ctx context.Context) error {
	for i, w := range c.writers {
		if err := until(ctx, func(ctx context.Context) error { return w.Put(ctx, "healthy", value(i)) }); err != nil {
			return fmt.Errorf("server %d takes no writes: %w", i, err)
		}
	}
	return nil
}

// until calls f every 20 ms until it succeeds or ctx ends.
func until(ctx context.Context, f func(context.Context) error) error {
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := f(try)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w; the last failure: %w", context.Cause(ctx), err)
		}
	}
}

// Usage is what the servers have used together so far.
func (c *Cluster) Usage() (sum Usage) {
	for _, s := range c.servers {
		u := s.Usage()
		sum.CPU += u.CPU
		sum.RSS += u.RSS
	}
	return sum
}

// Stop kills the servers.
func (c *Cluster) Stop() {
	for _, w := range c.writers {
		_ = w.Close()
	}
	for _, s := range c.servers {
		s.Kill()
	}
}

// address is the loopback address of server i of a product; each has one of its
// own, so that all use the ports they are used to.
func address(product, i int) string { return fmt.Sprintf("127.0.%d.%d", 200+product, i+1) }

func value(i int) string { return fmt.Sprintf("value-%d", i) }
