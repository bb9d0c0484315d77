package state

import (
	"bytes"
	"io"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/command"
)

const (
	// maxStaged is the most bytes of a saved state that is brought back.
	maxStaged = 1 << 30
	// stageLife is how many seconds a restore that nobody goes on with is kept.
	stageLife = 3600
)

// restoreState puts one part of a saved state beside those before it. With the
// last one it takes the whole over.
func (w *writer) restoreState(c *command.RestoreState) error {
	if err := w.stage(c); err != nil || !c.Last {
		return err
	}
	var parts []io.Reader
	for _, p := range w.staged() {
		parts = append(parts, bytes.NewReader(p.Data))
		w.remove(stagedTable, p)
	}
	saved, err := readSnapshot(io.MultiReader(parts...))
	if err != nil {
		return invalid("the saved state cannot be read: %v", err)
	}
	return w.takeOver(saved.read(), c)
}

func (w *writer) stage(c *command.RestoreState) error {
	if c.Id == "" || c.TimeUnix <= 0 {
		return invalid("the entry does not say which restore it is part of, and when it was made")
	}
	parts := w.staged()
	var size uint64
	for _, p := range parts {
		size += uint64(len(p.Data))
	}
	switch {
	case c.Offset == 0:
		w.unstage(parts)
	case len(parts) == 0 || parts[0].Id != c.Id || size != c.Offset:
		return refuse(command.Refusal_REFUSAL_CONFLICT, "the part at byte %d of this restore does not follow on what is there: somebody else has begun another restore, or this one lay still for too long; begin it anew", c.Offset)
	case size+uint64(len(c.Data)) > maxStaged:
		return invalid("the saved state has more than %d bytes", maxStaged)
	}
	if len(c.Data) > 0 {
		w.put(stagedTable, &StagedPart{Id: c.Id, Offset: c.Offset, Data: c.Data, TimeUnix: c.TimeUnix})
	}
	return nil
}

// staged lists the parts in their order.
func (t *Txn) staged() []*StagedPart { return all[*StagedPart](t, nil, stagedTable) }

func (w *writer) unstage(parts []*StagedPart) {
	for _, p := range parts {
		w.remove(stagedTable, p)
	}
}

// reapStaged forgets a restore that nobody goes on with.
func (w *writer) reapStaged(now int64) {
	if parts := w.staged(); len(parts) > 0 && parts[len(parts)-1].TimeUnix+stageLife <= now {
		w.unstage(parts)
	}
}

// takeOver makes of the present state what an operator wants who brings back a
// saved one. Configuration becomes what it was. Hosts that are gone since come
// back as lost, with what ran on them. What is a matter of fact stays: who the
// servers are, which hosts have come since and who is alive, what the
// authority is, where services have their places, and what is on record. So do
// tokens: one that was revoked or used since must not be good again.
func (w *writer) takeOver(from *Txn, c *command.RestoreState) error {
	was, is := from.Cluster(nil), w.Cluster(nil)
	switch {
	case was == nil:
		return invalid("the saved state is of no mesh: it is empty")
	case was.Id != is.Id && !c.OtherMesh:
		return refuse(command.Refusal_REFUSAL_CONFLICT, "the saved state is of mesh %q (id %s), and this is mesh %q (id %s)", was.Name, was.Id, is.Name, is.Id)
	}
	if was.Id == is.Id {
		w.takeHosts(from, c.TimeUnix)
	}
	if err := w.takeResources(from); err != nil {
		return err
	}
	w.setMark(restoredMark)
	return nil
}

// takeHosts comes before anything else that gives services their places.
func (w *writer) takeHosts(from *Txn, time int64) {
	for _, n := range from.Nodes(nil) {
		if w.Node(nil, n.Id) != nil || w.NodeByName(nil, n.Name) != nil || w.nodeByKey(n.KeyHash) != nil {
			continue
		}
		back := proto.CloneOf(n)
		back.State, back.LeaseServer, back.StateUnix = apiv1.NodeState_NODE_STATE_LOST, "", time
		back.ModifyIndex = w.index
		w.recall(n.Name)
		w.put(nodeTable, back)
		h := w.hosting(n.Id)
		for _, i := range from.NodeInstances(nil, n.Id) {
			h.put(i)
		}
		h.done()
		w.note("host", n.Name, "created")
	}
}

func (w *writer) takeResources(from *Txn) error {
	set := &command.SetResources{}
	for _, r := range from.Resources(nil, "") {
		r = proto.CloneOf(r)
		r.Version = 0
		set.Put = append(set.Put, r)
	}
	for _, r := range w.Resources(nil, "") {
		if key := mesh.KeyOf(r); from.Resource(nil, key.Kind, key.Name) == nil {
			set.Remove = append(set.Remove, &command.ResourceKey{Kind: key.Kind, Name: key.Name})
		}
	}
	return w.setResources(set)
}
