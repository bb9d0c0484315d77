package state

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// A hosted row has what one host runs: a place in a list is a tenth of what one
// in an index takes, of which there is one for every instance, by service.
type hosted struct {
	nodeID    string
	instances []*apiv1.Instance // by id; never modified
}

// NodeInstances lists the instances on a node by id.
func (t *Txn) NodeInstances(ws *WatchSet, nodeID string) []*apiv1.Instance {
	if h := first[*hosted](t, ws, hostedTable, byID, text(nodeID)); h != nil {
		return h.instances
	}
	return nil
}

func find(instances []*apiv1.Instance, id string) (at int, ok bool) {
	return slices.BinarySearchFunc(instances, id, func(i *apiv1.Instance, id string) int { return strings.Compare(i.Id, id) })
}

// A hosting changes what one host runs, and writes it when all changes are made.
type hosting struct {
	*writer
	hosted
	changed bool
}

func (w *writer) hosting(nodeID string) *hosting {
	return &hosting{writer: w, hosted: hosted{nodeID, slices.Clone(w.NodeInstances(nil, nodeID))}}
}

// put leaves an instance alone that is there and the same.
func (h *hosting) put(i *apiv1.Instance) {
	i = proto.CloneOf(i)
	i.NodeId, i.CreateIndex, i.ModifyIndex = h.nodeID, h.index, h.index
	at, there := find(h.instances, i.Id)
	if !there {
		h.instances = slices.Insert(h.instances, at, i)
	} else if !h.replace(h.instances[at], i) {
		return
	}
	h.instances[at], h.changed = i, true
	h.alike.share(i)
	h.writer.put(instanceTable, i)
	h.touch(i.Service)
}

// replace makes way for i, unless it is the same.
func (h *hosting) replace(known, i *apiv1.Instance) bool {
	i.CreateIndex, i.ModifyIndex = known.CreateIndex, known.ModifyIndex
	if proto.Equal(i, known) {
		return false
	}
	i.ModifyIndex = h.index
	if i.Service != known.Service {
		h.drop(known)
	}
	return true
}

// remove ignores an instance that is not there.
func (h *hosting) remove(id string) {
	if at, there := find(h.instances, id); there {
		h.drop(h.instances[at])
		h.instances, h.changed = slices.Delete(h.instances, at, at+1), true
	}
}

func (h *hosting) drop(i *apiv1.Instance) {
	h.writer.remove(instanceTable, i)
	h.touch(i.Service)
}

func (h *hosting) done() {
	switch {
	case h.changed && len(h.instances) > 0:
		h.writer.put(hostedTable, &hosted{h.nodeID, slices.Clip(h.instances)})
	case h.changed:
		h.dropHosted(h.nodeID)
	}
}

func (w *writer) dropHosted(nodeID string) {
	if h := first[*hosted](&w.Txn, nil, hostedTable, byID, text(nodeID)); h != nil {
		w.remove(hostedTable, h)
	}
}

// A likeness has an instance of each service. Instances of one service are much
// alike, so that they may share most of what they are made of.
type likeness map[string]*apiv1.Instance

// share has i, which nobody else knows yet, use the strings, tags and metadata
// of another instance where they are equal.
func (l likeness) share(i *apiv1.Instance) {
	like := l[i.Service]
	l[i.Service] = i
	if like == nil {
		return
	}
	i.Service = like.Service
	if i.Id == like.Id {
		i.Id = like.Id
	}
	if slices.Equal(i.Tags, like.Tags) {
		i.Tags = like.Tags
	}
	if maps.Equal(i.Meta, like.Meta) {
		i.Meta = like.Meta
	}
}
