package server

import (
	"context"
	"io"

	"github.com/prometheus/client_golang/prometheus"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/server/backup"
)

// newSchedule is nil for a server that is to make no snapshots.
func (s *Server) newSchedule() *backup.Schedule {
	b := s.cfg.Backup
	if b.Dir == "" {
		return nil
	}
	return backup.New(backup.Config{
		Dir: b.Dir, Every: b.Every, Keep: b.Keep, Leads: s.Leads, Logger: s.log,
		Save: func(ctx context.Context, w io.Writer) error { return s.replica.Save(ctx, w, false) },
	})
}

// backupStatus is what operators are told, nil when no snapshots are made.
func (s *Server) backupStatus() *apiv1.BackupStatus {
	if s.schedule == nil {
		return nil
	}
	status := s.schedule.Status()
	reply := &apiv1.BackupStatus{Server: s.member.Name, Dir: status.Dir, LastIndex: status.Index}
	if !status.Last.IsZero() {
		reply.LastUnix = status.Last.Unix()
	}
	if status.Err != nil {
		reply.Problem = status.Err.Error()
	}
	return reply
}

// backupMetrics are those of a server that makes snapshots.
func (s *Server) backupMetrics() []prometheus.Collector {
	if s.schedule == nil {
		return nil
	}
	status := s.schedule.Status
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "meshd_server_backup_last_seconds", Help: "When this server last made a scheduled snapshot, in Unix time; 0 when it never did.",
		}, func() float64 { return float64(s.backupStatus().LastUnix) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "meshd_server_backups_total", Help: "Scheduled snapshots that this server has made.",
		}, func() float64 { return float64(status().Made) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "meshd_server_backup_failures_total", Help: "Scheduled snapshots that this server could not make.",
		}, func() float64 { return float64(status().Failures) }),
	}
}
