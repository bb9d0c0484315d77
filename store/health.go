package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meshd/meshd/store/raftlog"
)

// ProblemKind tells problems apart for good.
type ProblemKind string

const (
	// DiskFailed: the log cannot be written, and the server has stopped taking
	// part.
	DiskFailed ProblemKind = "disk-failed"
	// DiskFull: there is no room for entries. The server does not lead, and goes
	// on when there is.
	DiskFull ProblemKind = "disk-full"
	// DiskSlow: writes take seconds. The server gives up leading when others do
	// better.
	DiskSlow ProblemKind = "disk-slow"
)

// A Problem is what keeps a server from doing its part.
type Problem struct {
	Kind ProblemKind
	// Message says what is wrong, where, and what to do.
	Message string
	Since   time.Time
}

const (
	// diskInterval is how often to look.
	diskInterval = 500 * time.Millisecond
	// stallLimit is how long one write may be under way, slowLimit how long each
	// of slowWrites may take one after the other, until the disk counts as slow.
	stallLimit = 3 * time.Second
	slowLimit  = time.Second
	slowWrites = 3
	// transferPause lies between attempts to hand over leadership.
	transferPause = 10 * time.Second
)

// disk watches how a server's disk does.
type disk struct {
	mu        sync.Mutex
	problem   *Problem
	slow      int // writes in a row
	slowSince time.Time

	// Only for watch.
	compactions     uint64
	compactionError error
	transferred     time.Time
}

// Problem is nil when the server has none that it knows of.
func (s *Store) Problem() *Problem {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	return s.disk.problem
}

// wrote is called by the log.
func (s *Store) wrote(w raftlog.Write) {
	s.metrics.wrote(w)
	if w.Entries == 0 {
		return
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	switch {
	case w.Took < slowLimit:
		s.disk.slow = 0
	case s.disk.slow == 0:
		s.disk.slow, s.disk.slowSince = 1, time.Now().Add(-w.Took)
	default:
		s.disk.slow++
	}
}

// watchDisk looks at the disk until the store stops.
func (s *Store) watchDisk() {
	tick := time.NewTicker(diskInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.setProblem(s.findProblem())
			s.giveWay()
			s.tellOfCompactions()
		case <-s.stop:
			return
		}
	}
}

func (s *Store) findProblem() *Problem {
	path := s.log.Path()
	if err := s.Err(); err != nil {
		return &Problem{DiskFailed, fmt.Sprintf("the Raft log %s cannot be written (%v): mend the disk and restart the server", path, err), time.Now()}
	}
	if since, err := s.log.Full(); err != nil {
		return &Problem{DiskFull, fmt.Sprintf("there is no room on disk for the Raft log %s: make room there, and the server goes on by itself (%v)", path, err), since}
	}
	if stalled := s.log.Stalled(); stalled > stallLimit {
		return &Problem{DiskSlow, fmt.Sprintf("a write to the Raft log %s is under way for %v: look for what else uses that disk, or for its errors in the kernel's log", path, stalled.Round(time.Second)), time.Now().Add(-stalled)}
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.disk.slow >= slowWrites {
		return &Problem{DiskSlow, fmt.Sprintf("each write to the Raft log %s takes longer than %v: look for what else uses that disk, or for its errors in the kernel's log", path, slowLimit), s.disk.slowSince}
	}
	return nil
}

// setProblem keeps the time at which a problem of the same kind began, and logs
// the beginning and the end of each.
func (s *Store) setProblem(p *Problem) {
	s.disk.mu.Lock()
	old := s.disk.problem
	if old != nil && p != nil && old.Kind == p.Kind {
		p.Since = old.Since
	}
	s.disk.problem = p
	s.disk.mu.Unlock()
	switch {
	case p != nil && (old == nil || old.Kind != p.Kind):
		s.config.Logger.Error("the disk hampers this server", "problem", p.Kind, "reason", p.Message)
	case p == nil && old != nil:
		s.config.Logger.Info("the disk is well again", "problem", old.Kind, "took", time.Since(old.Since).Round(time.Second))
	}
}

// giveWay keeps a server with a slow disk from leading for ever, when others
// could do better: a majority of the voters, without it, whose disks keep up.
//
// While a write is stalled, Raft's main loop is too, and would not hear of
// anything; but its heartbeats go out as if all were well. So they are held back
// until the others have elected another leader, or the write has ended.
func (s *Store) giveWay() {
	p := s.Problem()
	slow := p != nil && p.Kind == DiskSlow && s.IsLeader() && s.othersKeepUp()
	stalled := s.log.Stalled() > stallLimit
	s.transport.mute(slow && stalled)
	if !slow || stalled || time.Since(s.disk.transferred) < transferPause {
		return
	}
	s.disk.transferred = time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := s.TransferLeadership(ctx, ""); err != nil {
		s.config.Logger.Warn("another server should lead, for this one's disk is slow", "error", err)
	}
}

func (s *Store) othersKeepUp() bool {
	members, err := s.Servers()
	if err != nil {
		return false
	}
	voters, well := 0, 0
	for _, m := range members {
		if !m.Voter {
			continue
		}
		voters++
		if m.ID != s.config.ID && s.transport.keepsUp(raft.ServerID(m.ID), slowLimit) {
			well++
		}
	}
	return well > voters/2
}

func (s *Store) tellOfCompactions() {
	stats, d := s.log.Compactions(), &s.disk
	if stats.CompactionError != nil && d.compactionError == nil {
		s.config.Logger.Warn("the Raft log stays larger than it need be", "error", stats.CompactionError)
	}
	if stats.Compactions > d.compactions {
		s.config.Logger.Info("the Raft log was compacted", "file", s.log.Path(), "took", stats.LastCompaction, "writes_waited", stats.LastPause)
	}
	d.compactions, d.compactionError = stats.Compactions, stats.CompactionError
}
