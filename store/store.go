// Package store keeps one state on all servers by Raft: changes proposed to the
// leader are in force when a majority has them on disk, and reads see them.
package store

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshd/meshd/store/raftlog"
	"github.com/meshd/meshd/store/state"
)

// Config is what a store needs.
type Config struct {
	// ID of this server, for good.
	ID string
	// Address (host:port) under which Stream of other servers reaches this one.
	Address string
	// Dir holds the log and the snapshots; made when it is not there.
	Dir string
	// Stream is closed by Shutdown.
	Stream StreamLayer
	// Logger may be nil, for none.
	Logger *slog.Logger
	// Metrics may be nil, for none.
	Metrics prometheus.Registerer
	Timing  Timing
	// NoSync leaves out fsync of the log. For tests.
	NoSync bool

	// beforeWrite may hold up or fail writes of the log. For tests.
	beforeWrite func(entries int) error
}

// Timing has a default for every field that is zero.
type Timing struct {
	// Heartbeat is how long a follower waits for its leader; 750 ms.
	Heartbeat time.Duration
	// Election is how long a candidate waits for votes; 750 ms.
	Election time.Duration
	// Lease is how long a leader stays one without a majority; 375 ms.
	Lease time.Duration
	// Commit is how long followers may stay unaware of a commit when nothing
	// else is sent; 50 ms.
	Commit time.Duration
	// SnapshotInterval is how often to see whether a snapshot is due; 2 min.
	SnapshotInterval time.Duration
	// SnapshotThreshold is after how many log entries one is due; 8192.
	SnapshotThreshold uint64
	// TrailingLogs is how many entries to keep that the newest snapshot covers,
	// for followers that are a little behind and for falling back to the
	// snapshot before; 10240.
	TrailingLogs uint64
}

const (
	logFile     = "raft.db"
	snapshotDir = "snapshots" // Raft's name for it
	// Two, so that one that turns out damaged does not lose the state.
	retainSnapshots = 2

	transportTimeout = 10 * time.Second // of one message between servers
	transportPool    = 3                // connections kept to each server
)

// A Store is one server's part of the replicated state.
type Store struct {
	config    Config
	log       *raftlog.Log
	db        *state.DB
	raft      *raft.Raft
	transport *transport
	stream    *stream
	metrics   *metrics
	leader    *leaderWatch
	disk      disk

	// ready is the last term of which this server, as the leader, has applied
	// an entry.
	ready atomic.Uint64

	mu       sync.RWMutex
	closed   bool
	inFlight sync.WaitGroup // calls that wait for Raft
	watchers sync.WaitGroup
	stop     chan struct{}
	stopOnce sync.Once
	stopped  raft.Future
}

// Open starts a store on what Dir holds. It takes part in its cluster at once;
// with an empty Dir it waits to be added by a leader, or for Bootstrap.
func Open(c Config) (*Store, error) {
	c = c.withDefaults()
	if err := os.MkdirAll(filepath.Join(c.Dir, snapshotDir), 0o700); err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	s := &Store{config: c, db: state.New(), stream: newStream(c.Stream, c.Address), stop: make(chan struct{})}
	s.metrics = newMetrics(s)
	var err error
	s.log, err = raftlog.Open(raftlog.Options{
		Path: filepath.Join(c.Dir, logFile), NoSync: c.NoSync, Written: s.wrote, Before: c.beforeWrite,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store in %s: %w", c.Dir, err), s.stream.Close(), s.log.Close())
	}
	return s, nil
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	t := &c.Timing
	t.Heartbeat = cmp.Or(t.Heartbeat, 750*time.Millisecond)
	t.Election = cmp.Or(t.Election, 750*time.Millisecond)
	t.Lease = cmp.Or(t.Lease, 375*time.Millisecond)
	t.Commit = cmp.Or(t.Commit, 50*time.Millisecond)
	t.SnapshotInterval = cmp.Or(t.SnapshotInterval, 2*time.Minute)
	t.SnapshotThreshold = cmp.Or(t.SnapshotThreshold, 8192)
	t.TrailingLogs = cmp.Or(t.TrailingLogs, 10240)
	return c
}

func (s *Store) start() error {
	logger := newRaftLogger(s.config.Logger)
	files, err := raft.NewFileSnapshotStoreWithLogger(s.config.Dir, retainSnapshots, logger)
	if err != nil {
		return err
	}
	snapshots, err := newSnapshotStore(s.config.Dir, files)
	if err != nil {
		return err
	}
	machine := &machine{db: s.db, logger: s.config.Logger}
	s.transport = newTransport(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s.stream, MaxPool: transportPool, Timeout: transportTimeout, Logger: logger, MsgpackUseNewTimeFormat: true,
		// No pipelines: they gain little, and Raft 1.8.0 leaves the goroutines of
		// one for ever when a follower answers with a newer term.
		MaxRPCsInFlight: 1,
	}), s.log.OutOfRoom)
	log := &replayingLog{Log: s.log, snapshots: snapshots, machine: machine}
	s.raft, err = raft.NewRaft(s.raftConfig(), machine, log, s.log, snapshots, s.transport)
	if err != nil {
		err = errors.Join(snapshots.explain(err, machine), s.transport.Close())
		s.stream.abort()
		s.stream.wait()
		return err
	}
	s.leader = watchLeader(raft.ServerID(s.config.ID), s.raft)
	s.watchers.Go(func() { s.leader.run(s.stop) })
	s.watchers.Go(s.watchLog)
	s.watchers.Go(s.watchDisk)
	s.watchers.Go(func() { s.vouch(s.transport.NetworkTransport.Consumer(), s.transport.received) })
	if err := s.metrics.register(); err != nil {
		return errors.Join(err, s.Shutdown())
	}
	return nil
}

// maxBatch is how many entries share a write to disk, a message to a follower
// and a transaction of the state at most. Followers are sent one message at a
// time, so that it bounds what a trip to them carries.
const maxBatch = 256

func (s *Store) raftConfig() *raft.Config {
	c, t := raft.DefaultConfig(), s.config.Timing
	c.LocalID = raft.ServerID(s.config.ID)
	c.Logger = newRaftLogger(s.config.Logger)
	c.HeartbeatTimeout, c.ElectionTimeout = t.Heartbeat, t.Election
	c.LeaderLeaseTimeout, c.CommitTimeout = t.Lease, t.Commit
	c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = t.SnapshotInterval, t.SnapshotThreshold, t.TrailingLogs
	c.BatchApplyCh, c.MaxAppendEntries = true, maxBatch
	c.RestoreCommittedLogs = true // see replayingLog
	c.NoLegacyTelemetry = true
	c.ShutdownOnRemove = false // whoever opened the store shuts it down
	return c
}

// watchLog stops Raft when the log cannot be written any more: a server that
// does not know what it has on disk must neither vote nor acknowledge.
func (s *Store) watchLog() {
	select {
	case <-s.log.Failed():
		s.config.Logger.Error("the Raft log cannot be written, so this server stops taking part: mend the disk and restart it", "error", s.log.Err())
		s.stopRaft()
	case <-s.stop:
	}
}

// Failed is closed when the disk has failed and the store has stopped taking
// part in its cluster; Err says how. The process should end: only a new one,
// which reads what the disk really holds, may go on.
func (s *Store) Failed() <-chan struct{} { return s.log.Failed() }

// Err is the failure that closed Failed, nil before.
func (s *Store) Err() error { return s.log.Err() }

// drainTimeout is how long Shutdown waits for calls that wait for Raft. Raft
// answers them in a fraction of it, but leaves some without an answer once it
// has been stopped.
const drainTimeout = 5 * time.Second

// Shutdown refuses new calls, lets those under way end and stops the store and
// all its goroutines. A leader that is to go without a gap in writes hands over
// before, with TransferLeadership.
func (s *Store) Shutdown() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	if again {
		return nil
	}
	s.drain()
	close(s.stop)
	s.watchers.Wait()
	s.metrics.unregister()
	stopped := s.stopRaft()
	err := s.transport.Close()
	s.stream.abort() // what Raft sends or receives ends now, not at its timeout
	err = errors.Join(err, stopped.Error())
	s.transport.CloseStreams()
	s.stream.wait()
	if err := errors.Join(err, s.log.Close()); err != nil {
		return fmt.Errorf("stopping the store: %w", err)
	}
	return nil
}

// stopRaft gives one and the same future each time: only Raft's first can be
// waited for.
func (s *Store) stopRaft() raft.Future {
	s.stopOnce.Do(func() { s.stopped = s.raft.Shutdown() })
	return s.stopped
}

func (s *Store) drain() {
	drained := make(chan struct{})
	go func() {
		s.inFlight.Wait()
		close(drained)
	}()
	timeout := time.NewTimer(drainTimeout)
	defer timeout.Stop()
	select {
	case <-drained:
	case <-timeout.C:
	}
}
