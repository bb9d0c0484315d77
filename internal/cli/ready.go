package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
)

const (
	readyTimeout  = time.Minute
	readyInterval = 100 * time.Millisecond
)

// await waits until a unit that runs is ready to be used.
func (s *setup) await(what, unit string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.ctx, readyTimeout)
	defer cancel()
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return s.notReady(what, unit, err)
		case <-ticker.C:
		}
	}
}

func (s *setup) notReady(what, unit string, err error) error {
	if s.ctx.Err() != nil {
		return &failure{what: "interrupted while waiting for " + what, cause: err}
	}
	return &failure{what: fmt.Sprintf("%s runs, but is not ready after %v", what, readyTimeout), cause: err,
		next: "look at its log: journalctl -u " + unit + " -n 50"}
}

// serverReady reports why the server cannot take changes yet.
func (s *setup) serverReady(ctx context.Context) error {
	return ask(ctx, s.server.Socket, func(ctx context.Context, cl *client.Client) error {
		status, err := cl.Admin().Status(ctx, &apiv1.StatusRequest{})
		if err != nil {
			return err
		}
		for _, server := range status.Servers {
			if server.Leader {
				return nil
			}
		}
		return errors.New("the servers have no leader")
	})
}

// agentReady reports why the agent cannot serve callers yet.
func (s *setup) agentReady(ctx context.Context) error {
	return ask(ctx, s.agent.Socket, func(ctx context.Context, cl *client.Client) error {
		status, err := cl.Local().LocalStatus(ctx, &apiv1.LocalStatusRequest{})
		if err != nil {
			return err
		}
		if status.Server == "" {
			return errors.New("it has not reached a server")
		}
		return nil
	})
}
