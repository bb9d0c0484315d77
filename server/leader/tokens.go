package leader

import (
	"context"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// reapTokens removes the tokens that have been of no use for a day.
func (l *Loops) reapTokens(ctx context.Context) {
	now := time.Now()
	for _, t := range l.cfg.Replica.Local().Tokens(nil) {
		if !spent(t, now.Add(-keepTokens)) {
			continue
		}
		if err := l.propose(ctx, &command.RemoveToken{Id: t.Id}); err != nil {
			l.log.Error("an old join token could not be removed; trying again later", "token", t.Id, "error", err)
			continue
		}
		l.log.Info("removed an old join token", "token", t.Id)
	}
}

// spent says whether a token was of no use at that time.
func spent(t *apiv1.Token, at time.Time) bool {
	expired := t.ExpiresUnix <= at.Unix()
	used := !t.Reusable && t.UsedUnix > 0 && t.UsedUnix <= at.Unix()
	return expired || used
}
