package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config of the scheduled snapshots of one server.
type Config struct {
	// Dir is made when it is not there.
	Dir   string
	Every time.Duration
	// Keep is how many snapshots stay, the newest.
	Keep int

	// Save writes the state as of now.
	Save func(context.Context, io.Writer) error
	// Leads reports whether this server is to make them.
	Leads  func() bool
	Logger *slog.Logger
}

const (
	prefix, suffix = "meshd-", ".snapshot"
	// timeForm sorts by time.
	timeForm = "20060102T150405Z"
	// retry is how long after a failure, or after it was seen that another server
	// leads, it is looked again whether a snapshot is due.
	retry = time.Minute
	// saveTimeout is more than the largest mesh takes.
	saveTimeout = 10 * time.Minute
)

// A Schedule makes snapshots by the clock.
type Schedule struct {
	cfg Config

	mu     sync.Mutex
	status Status
}

// A Status says how snapshots have gone since the server was started.
type Status struct {
	Dir      string
	Last     time.Time // when the newest was made, zero when there is none
	Index    uint64    // of the last change in it, 0 while not known
	Err      error     // why the last attempt failed, nil when it did not
	Made     int
	Failures int
}

// New makes a schedule; Run follows it.
func New(cfg Config) *Schedule { return &Schedule{cfg: cfg, status: Status{Dir: cfg.Dir}} }

// Status says how it goes.
func (s *Schedule) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Run makes snapshots while this server leads, until ctx ends.
func (s *Schedule) Run(ctx context.Context) {
	for ctx.Err() == nil {
		sleep(ctx, s.step(ctx))
	}
}

// step makes a snapshot if one is due and says how long there is nothing to do.
func (s *Schedule) step(ctx context.Context) time.Duration {
	if !s.cfg.Leads() {
		return min(retry, s.cfg.Every)
	}
	last, err := s.newest()
	if err == nil {
		if left := time.Until(last.Add(s.cfg.Every)); left > 0 && left <= s.cfg.Every {
			s.note(func(st *Status) { st.Last = last })
			return left
		}
		err = s.save(ctx)
	}
	if err == nil {
		return s.cfg.Every
	}
	if ctx.Err() == nil {
		s.note(func(st *Status) { st.Err, st.Failures = err, st.Failures+1 })
		s.cfg.Logger.Error("a scheduled snapshot could not be made; trying again", "dir", s.cfg.Dir, "error", err)
	}
	return min(retry, s.cfg.Every)
}

func (s *Schedule) note(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}

// save makes a snapshot and lets go of those that are too many.
func (s *Schedule) save(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of snapshots: %w", err)
	}
	now := time.Now().UTC()
	path := filepath.Join(s.cfg.Dir, prefix+now.Format(timeForm)+suffix)
	info, err := Write(path, func(w io.Writer) error { return s.cfg.Save(ctx, w) })
	if err != nil {
		return err
	}
	s.note(func(st *Status) { st.Last, st.Index, st.Err, st.Made = now, info.Index, nil, st.Made+1 })
	s.cfg.Logger.Info("made a scheduled snapshot", "file", path, "index", info.Index, "bytes", info.Size)
	return s.retain()
}

// retain removes all but the newest snapshots, and what was left unfinished.
func (s *Schedule) retain() error {
	names, err := s.names()
	if err != nil {
		return err
	}
	var failures []error
	for _, name := range names[:max(0, len(names)-s.cfg.Keep)] {
		failures = append(failures, os.Remove(filepath.Join(s.cfg.Dir, name)))
	}
	left, err := filepath.Glob(filepath.Join(s.cfg.Dir, unfinished(prefix+"*")))
	failures = append(failures, err)
	for _, path := range left {
		failures = append(failures, os.Remove(path))
	}
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("removing old snapshots: %w", err)
	}
	return nil
}

// newest is when the newest snapshot was made, by its name.
func (s *Schedule) newest() (time.Time, error) {
	names, err := s.names()
	if err != nil || len(names) == 0 {
		return time.Time{}, err
	}
	return made(names[len(names)-1])
}

func made(name string) (time.Time, error) {
	return time.Parse(timeForm, strings.TrimSuffix(strings.TrimPrefix(name, prefix), suffix))
}

// names are the snapshots that a schedule has made, the oldest first.
func (s *Schedule) names() (names []string, err error) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for snapshots: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if _, err := made(name); err == nil && strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
