package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/telemetry"
)

// startInterfaces opens what people and tools on this host speak to. An empty
// address leaves one closed.
func (a *Agent) startInterfaces(ctx context.Context) error {
	a.metrics.MustRegister(a.collectors()...)
	if err := a.startHTTP(ctx); err != nil {
		return err
	}
	return a.startSocket(ctx)
}

func (a *Agent) startHTTP(ctx context.Context) error {
	if a.cfg.HTTP == "" {
		return nil
	}
	l, err := a.cfg.Network.Listen(ctx, "tcp", a.cfg.HTTP)
	if err != nil {
		return fmt.Errorf("listening for HTTP: %w", err)
	}
	server := telemetry.Serve(l, telemetry.Handler(a.metrics, a.healthy), a.log)
	a.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		server.Stop(ctx)
	})
	return nil
}

func (a *Agent) startSocket(ctx context.Context) error {
	if a.cfg.Socket == "" {
		return nil
	}
	l, err := a.listenUnix(ctx)
	if err != nil {
		return err
	}
	server := grpcx.NewServer(grpc.UnaryInterceptor(notHere), grpc.StreamInterceptor(streamNotHere))
	apiv1.RegisterLocalServer(server, localAPI{agent: a})
	apiv1.RegisterAdminServer(server, adminAPI{agent: a})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); err != nil {
			a.log.Error("the agent's socket is closed", "error", err)
		}
	}()
	a.onStop(func() {
		server.Stop()
		<-done
	})
	return nil
}

// listenUnix takes the place of a socket that an agent left behind, but not of
// one that an agent still serves.
func (a *Agent) listenUnix(ctx context.Context) (net.Listener, error) {
	path := a.cfg.Socket
	if c, err := a.cfg.Network.DialContext(ctx, "unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("another agent serves %s: stop it first, or give this one a socket of its own", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing the socket of an earlier agent: %w", err)
	}
	l, err := a.cfg.Network.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the agent's socket: %w", err)
	}
	// Group members may declare services. On a network in memory there is no
	// file.
	if err := os.Chmod(path, 0o660); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.Close()
		return nil, fmt.Errorf("opening the agent's socket to its group: %w", err)
	}
	return l, nil
}

func (a *Agent) collectors() []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "meshd_agent_" + name, Help: help}, value)
	}
	return []prometheus.Collector{
		gauge("connected", "1 while a server holds this host's stream.", func() float64 {
			if a.control.Status().Server == "" {
				return 0
			}
			return 1
		}),
		gauge("slice_version", "Version of what this host knows of the mesh.", func() float64 { return float64(a.built().slice.Version) }),
		gauge("problems", "Parts of the configuration that this host cannot put to work.", func() float64 {
			return float64(len(a.built().problems) + len(a.local.State().Problems))
		}),
		gauge("certificate_expiry_seconds", "Unix time at which the first of this host's certificates ends.", a.firstExpiry),
	}
}

func (a *Agent) firstExpiry() float64 {
	first := time.Time{}
	for _, s := range a.certs.States() {
		if !s.NotAfter.IsZero() && (first.IsZero() || s.NotAfter.Before(first)) {
			first = s.NotAfter
		}
	}
	return float64(first.Unix())
}
