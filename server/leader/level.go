package leader

import (
	"context"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// raiseLevel lets the mesh use what all of its servers know by now.
func (l *Loops) raiseLevel(ctx context.Context) {
	txn := l.cfg.Replica.Local()
	known := knownToAll(txn.Servers(nil), l.cfg.FeatureLevel)
	if known <= txn.FeatureLevel(nil) {
		return
	}
	if err := l.propose(ctx, &command.SetFeatureLevel{Level: known}); err != nil {
		l.log.Error("the feature level could not be raised; trying again", "level", known, "error", err)
		return
	}
	l.log.Info("raised the feature level: all servers know it", "level", known)
}

// knownToAll is the highest level that every server knows, 0 without servers. One
// that does not say knows the first only.
func knownToAll(servers []*apiv1.Server, own uint32) uint32 {
	if len(servers) == 0 {
		return 0
	}
	level := own
	for _, s := range servers {
		level = min(level, max(s.FeatureLevel, 1))
	}
	return level
}
