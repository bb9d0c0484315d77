package state

import (
	"fmt"

	"github.com/hashicorp/go-memdb"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

// A Txn is the state at one moment, unmoved by what is applied later. What it
// gives is shared by all readers and must not be modified. Each getter adds to
// its *WatchSet what would change its answer; nil is fine.
type Txn struct {
	txn *memdb.Txn
	// Closed when a restored snapshot has taken the place of these tables.
	replaced <-chan struct{}
}

// Index is that of the last log entry applied, 0 when there was none.
func (t *Txn) Index(ws *WatchSet) uint64 { return t.mark(ws, appliedMark) }

// Cluster is nil before InitCluster.
func (t *Txn) Cluster(ws *WatchSet) *apiv1.Cluster {
	return first[*apiv1.Cluster](t, ws, clusterTable, byID, text(""))
}

// Authority is nil before InitCluster.
func (t *Txn) Authority(ws *WatchSet) *apiv1.Authority {
	return first[*apiv1.Authority](t, ws, authorityTable, byID, text(""))
}

// Servers lists all members of the control plane by id.
func (t *Txn) Servers(ws *WatchSet) []*apiv1.Server {
	return all[*apiv1.Server](t, ws, serverTable)
}

// Server is nil when there is none with that id.
func (t *Txn) Server(ws *WatchSet, id string) *apiv1.Server {
	return first[*apiv1.Server](t, ws, serverTable, byID, text(id))
}

// Nodes lists all hosts by id.
func (t *Txn) Nodes(ws *WatchSet) []*apiv1.Node {
	return all[*apiv1.Node](t, ws, nodeTable)
}

// Node is nil when there is none with that id.
func (t *Txn) Node(ws *WatchSet, id string) *apiv1.Node {
	return first[*apiv1.Node](t, ws, nodeTable, byID, text(id))
}

// NodeByName is nil when there is none with that name.
func (t *Txn) NodeByName(ws *WatchSet, name string) *apiv1.Node {
	return first[*apiv1.Node](t, ws, nodeTable, byName, text(name))
}

// NodesSince lists the hosts that have changed after index v, in the order of
// their changes. A lease that moved between servers is no change.
func (t *Txn) NodesSince(ws *WatchSet, v uint64) []*apiv1.Node {
	return since[*apiv1.Node](t, ws, nodeTable, v)
}

// RemovedNodes names the hosts that were removed after index v and are not back
// under that name. complete is false when v is too long ago for all of them to
// be remembered: whoever has the hosts of that time must start afresh.
func (t *Txn) RemovedNodes(ws *WatchSet, v uint64) (names []string, complete bool) {
	for _, r := range since[*RemovedNode](t, ws, removedTable, v) {
		names = append(names, r.Name)
	}
	return names, v >= t.mark(ws, forgottenMark)
}

// Services lists all services of the catalogue by name.
func (t *Txn) Services(ws *WatchSet) []*apiv1.ServiceIndex {
	return all[*apiv1.ServiceIndex](t, ws, serviceTable)
}

// Service is nil when nothing has ever named that service.
func (t *Txn) Service(ws *WatchSet, name string) *apiv1.ServiceIndex {
	return first[*apiv1.ServiceIndex](t, ws, serviceTable, byID, text(name))
}

// ServicesSince lists the services of which something has changed after index
// v, in the order of their changes.
func (t *Txn) ServicesSince(ws *WatchSet, v uint64) []*apiv1.ServiceIndex {
	return since[*apiv1.ServiceIndex](t, ws, serviceTable, v)
}

// Instances lists the instances of a service by node and id.
func (t *Txn) Instances(ws *WatchSet, service string) []*apiv1.Instance {
	return list[*apiv1.Instance](t, ws, instanceTable, byID, text(service))
}

// Resources lists the resources of a kind by name, or with kind "" all by kind
// and name.
func (t *Txn) Resources(ws *WatchSet, kind string) []*apiv1.Resource {
	if kind == "" {
		return all[*apiv1.Resource](t, ws, resourceTable)
	}
	return list[*apiv1.Resource](t, ws, resourceTable, byID, text(kind))
}

// Resource is nil when there is none of that kind and name.
func (t *Txn) Resource(ws *WatchSet, kind, name string) *apiv1.Resource {
	return first[*apiv1.Resource](t, ws, resourceTable, byID, text(kind, name))
}

// Routes lists the routes of a service by name.
func (t *Txn) Routes(ws *WatchSet, service string) []*apiv1.Resource {
	return list[*apiv1.Resource](t, ws, resourceTable, byService, text(mesh.ResourceRoute, service))
}

// RoutesTo lists the routes that send calls to a service, whichever service's they
// are.
func (t *Txn) RoutesTo(ws *WatchSet, service string) []*apiv1.Resource {
	return list[*apiv1.Resource](t, ws, resourceTable, byDestination, text(service))
}

// Policies lists the policies of a service by name.
func (t *Txn) Policies(ws *WatchSet, service string) []*apiv1.Resource {
	return list[*apiv1.Resource](t, ws, resourceTable, byService, text(mesh.ResourcePolicy, service))
}

// MeshConfig is the resource of kind mesh, nil when there is none, and the
// index of its last change, its removal included.
func (t *Txn) MeshConfig(ws *WatchSet) (config *apiv1.Mesh, version uint64) {
	return t.Resource(nil, mesh.ResourceMesh, mesh.MeshName).GetMesh(), t.mark(ws, meshMark)
}

// Tokens lists all join tokens by id.
func (t *Txn) Tokens(ws *WatchSet) []*apiv1.Token {
	return all[*apiv1.Token](t, ws, tokenTable)
}

// Token is nil when there is none with that id.
func (t *Txn) Token(ws *WatchSet, id string) *apiv1.Token {
	return first[*apiv1.Token](t, ws, tokenTable, byID, text(id))
}

// AccessTokens lists all access tokens by id.
func (t *Txn) AccessTokens(ws *WatchSet) []*apiv1.AccessToken {
	return all[*apiv1.AccessToken](t, ws, accessTable)
}

// AccessToken is nil when there is none with that id.
func (t *Txn) AccessToken(ws *WatchSet, id string) *apiv1.AccessToken {
	return first[*apiv1.AccessToken](t, ws, accessTable, byID, text(id))
}

// Audit lists the records of changes, newest first, from the one before index
// before on, or from the newest on when that is 0; at most limit of them, or all
// when that is 0.
func (t *Txn) Audit(ws *WatchSet, before uint64, limit int) (records []*apiv1.AuditRecord) {
	whole, err := t.txn.Get(auditTable, byID)
	mustDo(err)
	ws.add(t, whole.WatchCh())
	// 0 - 1 is the highest index there can be.
	it, err := t.txn.ReverseLowerBound(auditTable, byID, number(before-1))
	mustDo(err)
	for row := it.Next(); row != nil && (limit == 0 || len(records) < limit); row = it.Next() {
		records = append(records, row.(*apiv1.AuditRecord))
	}
	return records
}

// GossipKeys is nil when the state has none: they are on the servers' disks
// alone.
func (t *Txn) GossipKeys(ws *WatchSet) *apiv1.GossipKeys {
	return first[*apiv1.GossipKeys](t, ws, gossipTable, byID, text(""))
}

// RestoredIndex is where an operator last brought back a saved state, 0 when
// nobody did. Changes lead across it as across any other index.
func (t *Txn) RestoredIndex(ws *WatchSet) uint64 { return t.mark(ws, restoredMark) }

func (t *Txn) mark(ws *WatchSet, name string) uint64 {
	return first[mark](t, ws, markTable, byID, text(name)).index
}

// first gives the row with that key, or the zero row.
func first[T any](t *Txn, ws *WatchSet, table, index string, key []byte) (row T) {
	watch, found, err := t.txn.FirstWatch(table, index, key)
	mustDo(err)
	ws.add(t, watch)
	if found != nil {
		row = found.(T)
	}
	return row
}

// list gives the rows whose keys begin with key.
func list[T any](t *Txn, ws *WatchSet, table, index string, key []byte) []T {
	it, err := t.txn.Get(table, index, key)
	mustDo(err)
	ws.add(t, it.WatchCh())
	return collect[T](it)
}

func all[T any](t *Txn, ws *WatchSet, table string) []T {
	it, err := t.txn.Get(table, byID)
	mustDo(err)
	ws.add(t, it.WatchCh())
	return collect[T](it)
}

// since gives the rows modified after v. What a watch on them waits for is any
// change to the table.
func since[T any](t *Txn, ws *WatchSet, table string, v uint64) []T {
	whole, err := t.txn.Get(table, byID)
	mustDo(err)
	ws.add(t, whole.WatchCh())
	it, err := t.txn.LowerBound(table, byModified, number(v+1))
	mustDo(err)
	return collect[T](it)
}

func collect[T any](it memdb.ResultIterator) (rows []T) {
	for row := it.Next(); row != nil; row = it.Next() {
		rows = append(rows, row.(T))
	}
	return rows
}

// mustDo is for errors that only a mistake in the schema can cause.
func mustDo(err error) {
	if err != nil {
		panic(fmt.Sprintf("BUG: a query does not fit the state's schema: %v", err))
	}
}
