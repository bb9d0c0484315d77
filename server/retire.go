package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/meshd/meshd/internal/atomicfile"
	"github.com/meshd/meshd/server/rpc"
	"github.com/meshd/meshd/store/state"
)

const (
	// retiredFile says why the server in a data directory can never take part
	// again.
	retiredFile = "retired.json"
	// settleTime is how long a server that was removed keeps its vote at most: the
	// others may need it to agree on going on without.
	settleTime = 5 * time.Second
	// askTimeout bounds the question to one other server.
	askTimeout = 2 * time.Second
	// patience is how long a server without a leader waits before it asks the
	// others whether it is still one of them.
	patience = 3 * time.Second
)

// A retirement is why a server can never take part in its mesh again.
type retirement struct {
	mu     sync.Mutex
	reason string
}

// problem is why this server takes no part any more, or what is the matter with
// its disk; empty when all is well.
func (s *Server) problem() string {
	s.retirement.mu.Lock()
	reason := s.retirement.reason
	s.retirement.mu.Unlock()
	if p := s.store.Problem(); reason == "" && p != nil {
		return p.Message
	}
	return reason
}

// kin are those that this server belongs to.
func (s *Server) kin() rpc.Kin {
	return rpc.Kin{ClusterID: s.member.ClusterID, Recovery: s.member.Recovery}
}

// awaitRetirement retires this server when it has been taken out of the mesh, or
// when the mesh went on without it.
func (s *Server) awaitRetirement(ctx context.Context) {
	verdicts := make(chan error, 1)
	s.background.Go(func() { s.askVerdict(ctx, verdicts) })
	var err error
	select {
	case err = <-verdicts:
	case err = <-s.removal(ctx):
	case <-ctx.Done():
		return
	}
	if err != nil {
		s.retire(err)
	}
}

// removal tells when the state has this server and then has it no more, and the
// others can do without its vote.
func (s *Server) removal(ctx context.Context) <-chan error {
	removed := make(chan error, 1)
	s.background.Go(func() {
		if !s.awaitMember(ctx, true) || !s.awaitMember(ctx, false) {
			return
		}
		s.awaitDropped(ctx)
		removed <- fmt.Errorf("server %s was removed from mesh %s", s.member.Name, s.member.ClusterName)
	})
	return removed
}

func (s *Server) awaitMember(ctx context.Context, want bool) bool {
	for {
		var ws state.WatchSet
		if is := s.replica.Local().Server(&ws, s.member.ID) != nil; is == want {
			return true
		}
		if ws.Wait(ctx) != nil {
			return false
		}
	}
}

// awaitDropped waits until this server is no member of Raft any more, has no
// leader that would tell it so, or has waited for long enough.
func (s *Server) awaitDropped(ctx context.Context) {
	for end := time.Now().Add(settleTime); time.Now().Before(end) && ctx.Err() == nil; {
		if leadership, _ := s.store.WatchLeader(); leadership.ID == "" || !s.votes() {
			return
		}
		sleep(ctx, 50*time.Millisecond)
	}
}

func (s *Server) votes() bool {
	members, err := s.store.Servers()
	for _, m := range members {
		if m.ID == s.member.ID {
			return true
		}
	}
	return err != nil
}

// askVerdict asks servers that gossip does not see, and all of them while there is
// no leader, whether this one is still one of them.
func (s *Server) askVerdict(ctx context.Context, verdicts chan<- error) {
	lonely := time.Now()
	for sleep(ctx, time.Second) {
		if leadership, _ := s.store.WatchLeader(); leadership.ID != "" {
			lonely = time.Now()
		}
		if err := s.ask(ctx, time.Since(lonely) > patience); err != nil {
			verdicts <- err
			return
		}
	}
}

func (s *Server) ask(ctx context.Context, all bool) error {
	alive := s.seenAlive()
	for _, server := range s.replica.Local().Servers(nil) {
		if server.Id == s.member.ID || alive[server.Id] && !all {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		_, err := s.replica.Progress(ctx, server.Id, server.Address)
		cancel()
		var verdict *rpc.VerdictError
		if errors.As(err, &verdict) {
			return verdict
		}
	}
	return nil
}

// retire ends this server's part in its mesh for good: agents go to other servers,
// nobody is asked for votes any more, and what is on disk is not started again.
// The process goes on to say so.
func (s *Server) retire(why error) {
	reason := fmt.Sprintf("%v: it takes no part any more; move %s away, and join it again with a new token if it is to be a server", why, s.dir)
	s.retirement.mu.Lock()
	s.retirement.reason = reason
	s.retirement.mu.Unlock()
	s.log.Error("this server takes no part in its mesh any more", "reason", reason)
	s.complain("noting that this server takes no part any more", s.dir.writeRetired(reason))
	s.hub.Stop()
	s.complain("leaving gossip", s.gossip.Leave(time.Second))
	s.complain("stopping the store", s.store.Shutdown())
}

type retiredRecord struct {
	Reason string `json:"reason"`
}

func (d dataDir) writeRetired(reason string) error {
	text, err := json.Marshal(retiredRecord{reason})
	if err != nil {
		return err
	}
	return atomicfile.Write(d.file(retiredFile), append(text, '\n'), 0o600)
}

// checkRetired refuses a directory whose server can never take part again.
func (d dataDir) checkRetired() error {
	text, err := os.ReadFile(d.file(retiredFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var r retiredRecord
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("reading %s: %w", d.file(retiredFile), err)
	}
	return errors.New(r.Reason)
}
