package state

import (
	"context"

	"github.com/hashicorp/go-memdb"
)

// A WatchSet waits for what has been read to change. Its zero value is ready,
// and it is good for one Wait: read again with a new one. It may wake for
// nothing, and never misses a change.
type WatchSet struct {
	set memdb.WatchSet
}

// Wait returns nil as soon as anything that was read may have changed, which
// may be before the call, or the error of ctx. With nothing read it waits for
// ctx.
func (ws *WatchSet) Wait(ctx context.Context) error {
	if ws.set == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return ws.set.WatchCtx(ctx)
}

func (ws *WatchSet) add(t *Txn, watch <-chan struct{}) {
	if ws == nil {
		return
	}
	if ws.set == nil {
		ws.set = memdb.NewWatchSet()
		ws.set.Add(t.replaced)
	}
	ws.set.Add(watch)
}
