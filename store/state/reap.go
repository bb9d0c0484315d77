package state

import (
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// reap looks at all that is named anew, for it may have changed since the entry
// was worked out. What it clears away is in the result.
func (w *writer) reap(c *command.Reap) error {
	if c.TimeUnix <= 0 {
		return invalid("the entry does not say when it was worked out")
	}
	for _, id := range c.TokenIds {
		w.reapToken(w.Token(nil, id), c.TimeUnix)
	}
	for _, id := range c.AccessTokenIds {
		w.reapAccessToken(w.AccessToken(nil, id), c.TimeUnix)
	}
	for _, id := range c.NodeIds {
		w.reapNode(w.Node(nil, id), c)
	}
	w.reapStaged(c.TimeUnix)
	if c.KeepAuditRecords > 0 {
		w.reapAudit(int(c.KeepAuditRecords))
	}
	return nil
}

func (w *writer) reapToken(t *apiv1.Token, time int64) {
	if t == nil || time < t.ExpiresUnix && (t.Reusable || t.UsedUnix == 0) {
		return
	}
	w.remove(tokenTable, t)
	w.note("token", t.Id, "deleted")
}

func (w *writer) reapAccessToken(t *apiv1.AccessToken, time int64) {
	if t == nil || t.ExpiresUnix == 0 || time < t.ExpiresUnix {
		return
	}
	w.remove(accessTable, t)
	w.note("access token", t.Id, "deleted")
}

func (w *writer) reapNode(n *apiv1.Node, c *command.Reap) {
	switch {
	case n == nil || n.State == apiv1.NodeState_NODE_STATE_ALIVE:
	case n.StateUnix == 0:
		known := n
		n = proto.CloneOf(n)
		n.StateUnix = c.TimeUnix
		w.replaceNode(known, n)
	case n.StateUnix < c.DeadBeforeUnix:
		w.dropNode(n)
		w.remember(n.Name)
		w.note("host", n.Name, "deleted")
	}
}

// reapAudit leaves the newest records.
func (w *writer) reapAudit(keep int) {
	newest := w.Audit(nil, 0, keep)
	if len(newest) < keep {
		return
	}
	for _, r := range w.Audit(nil, newest[keep-1].Index, 0) {
		w.remove(auditTable, r)
	}
}
