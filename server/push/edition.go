package push

import (
	"sync"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/state"
)

// An edition is the state at one moment as agents are told of it. Whatever is
// the same for several agents is made once. Nobody but the publisher keeps one:
// it holds on to the state of its time.
type edition struct {
	txn     *state.Txn
	version uint64
	builder *builder

	count func() int // of services

	mu      sync.Mutex
	changes map[uint64]*changes // by the version that they lead from
}

func newEdition(txn *state.Txn, b *builder) *edition {
	return &edition{
		txn: txn, version: txn.Index(nil), builder: b,
		count:   sync.OnceValue(func() int { return len(txn.Services(nil)) }),
		changes: map[uint64]*changes{},
	}
}

// A changes is what differs between an earlier version and an edition.
type changes struct {
	from     uint64
	services []*apiv1.ServiceIndex
	nodes    [][]byte // fields of an update
	// all are the fields that tell of the services to agents that have, and get,
	// all of them.
	all func() [][]byte
}

func (c *changes) none() bool { return len(c.services)+len(c.nodes) == 0 }

// maxChanges bounds what is kept for agents that have different versions. Those
// that keep up have the same one.
const maxChanges = 32

// since gives the changes from a version that agents can be led from, or with 0
// all there is.
func (e *edition) since(version uint64) *changes {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.changes[version]; c != nil {
		return c
	}
	c := e.work(version, nil)
	if len(e.changes) >= maxChanges {
		clear(e.changes)
	}
	e.changes[version] = c
	return c
}

func (e *edition) work(version uint64, ws *state.WatchSet) *changes {
	c := &changes{from: version, services: e.txn.ServicesSince(ws, version)}
	c.all = sync.OnceValue(func() (fields [][]byte) {
		for _, s := range c.services {
			fields = append(fields, e.builder.service(e.txn, s).from(version)...)
		}
		return fields
	})
	var nodes chunker
	removed, _ := e.txn.RemovedNodes(ws, version)
	for _, name := range removed {
		if version > 0 {
			nodes.add(appendField(nil, updateRemovedNodes, []byte(name)))
		}
	}
	for _, n := range e.txn.NodesSince(ws, version) {
		nodes.add(field(updateNodes, PublicNode(n)))
	}
	c.nodes = nodes.done()
	return c
}

// leadsFrom reports whether all is known that happened since a version.
func (e *edition) leadsFrom(version uint64) bool {
	if version == 0 || version > e.version || version < e.txn.RestoredIndex(nil) {
		return false
	}
	_, complete := e.txn.RemovedNodes(nil, version)
	return complete
}

// whole reports whether the mesh is so small that every agent gets all of it.
func (e *edition) whole() bool {
	config, _ := e.txn.MeshConfig(nil)
	return e.count() <= mesh.EffectiveWholeCatalogue(config)
}

// from gives the service to agents that have all services as they were at a
// version; a service that was not there then is whole.
func (b *built) from(version uint64) [][]byte {
	if version == 0 || b.index.CreateIndex > version {
		return b.all()
	}
	return b.after(version)
}
