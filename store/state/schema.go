package state

import (
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/go-memdb"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

const (
	markTable      = "mark"
	clusterTable   = "cluster"
	authorityTable = "authority"
	serverTable    = "server"
	nodeTable      = "node"
	serviceTable   = "service"
	instanceTable  = "instance"
	hostedTable    = "hosted"
	resourceTable  = "resource"
	tokenTable     = "token"
	removedTable   = "removed-node"
	accessTable    = "access-token"
	auditTable     = "audit"
	gossipTable    = "gossip-keys"
	stagedTable    = "staged-part"
)

const (
	byID      = "id"
	byName    = "name"
	byKey     = "key" // of the member's certificate
	byService = "service"
	// Of routes, by the services that they send calls to.
	byDestination = "destination"
	byModified    = "modified"
	byVIP         = "vip"
)

// A mark is an index that belongs to no row. All marks are there from the
// beginning, so that a watch on one wakes for it alone.
type mark struct {
	name  string
	index uint64
}

const (
	appliedMark   = "applied"   // the last entry applied
	meshMark      = "mesh"      // the last change to the mesh's defaults
	forgottenMark = "forgotten" // the newest removal of a node that is no longer remembered
	restoredMark  = "restored"  // the last time that a saved state was brought back
)

// newTables makes an empty database. Rows are protobuf messages, which are
// never modified once they are in.
func newTables() *memdb.MemDB {
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		markTable:      table(markTable, unique(byID, func(m mark) []byte { return text(m.name) })),
		clusterTable:   table(clusterTable, only[*apiv1.Cluster]()),
		authorityTable: table(authorityTable, only[*apiv1.Authority]()),
		serverTable: table(serverTable,
			unique(byID, func(s *apiv1.Server) []byte { return text(s.Id) }),
			unique(byName, func(s *apiv1.Server) []byte { return text(s.Name) }),
			unique(byKey, func(s *apiv1.Server) []byte { return s.KeyHash })),
		nodeTable: table(nodeTable,
			unique(byID, func(n *apiv1.Node) []byte { return text(n.Id) }),
			unique(byName, func(n *apiv1.Node) []byte { return text(n.Name) }),
			unique(byKey, func(n *apiv1.Node) []byte { return n.KeyHash }),
			shared(byModified, func(n *apiv1.Node) []byte { return number(n.ModifyIndex) })),
		serviceTable: table(serviceTable,
			unique(byID, func(s *apiv1.ServiceIndex) []byte { return text(s.Name) }),
			unique(byVIP, func(s *apiv1.ServiceIndex) []byte { return number(uint64(s.Vip)) }),
			shared(byModified, func(s *apiv1.ServiceIndex) []byte { return number(s.ModifyIndex) })),
		// By service: the same node and id may be there for one service only.
		instanceTable: table(instanceTable, unique(byID, func(i *apiv1.Instance) []byte { return text(i.Service, i.NodeId, i.Id) })),
		hostedTable:   table(hostedTable, unique(byID, func(h *hosted) []byte { return text(h.nodeID) })),
		resourceTable: table(resourceTable,
			unique(byID, func(r *apiv1.Resource) []byte { return text(mesh.ResourceKind(r), r.Name) }),
			shared(byService, func(r *apiv1.Resource) []byte { return text(mesh.ResourceKind(r), serviceOf(r)) }),
			&memdb.IndexSchema{Name: byDestination, AllowMissing: true, Indexer: destinations{}}),
		tokenTable: table(tokenTable, unique(byID, func(t *apiv1.Token) []byte { return text(t.Id) })),
		removedTable: table(removedTable,
			unique(byID, func(r *RemovedNode) []byte { return text(r.Name) }),
			shared(byModified, func(r *RemovedNode) []byte { return number(r.Index) })),
		accessTable: table(accessTable, unique(byID, func(t *apiv1.AccessToken) []byte { return text(t.Id) })),
		auditTable:  table(auditTable, unique(byID, func(r *apiv1.AuditRecord) []byte { return number(r.Index) })),
		gossipTable: table(gossipTable, only[*apiv1.GossipKeys]()),
		stagedTable: table(stagedTable, unique(byID, func(p *StagedPart) []byte { return number(p.Offset) })),
	}})
	if err != nil {
		panic(fmt.Sprintf("BUG: the schema of the state: %v", err))
	}
	txn := db.Txn(true)
	for _, name := range []string{appliedMark, meshMark, forgottenMark, restoredMark} {
		mustDo(txn.Insert(markTable, mark{name: name}))
	}
	txn.Commit()
	return db
}

// serviceOf is the service that a resource is about, "" when it is about all.
func serviceOf(r *apiv1.Resource) string {
	switch spec := r.GetSpec().(type) {
	case *apiv1.Resource_Service:
		return r.Name
	case *apiv1.Resource_Route:
		return spec.Route.GetService()
	case *apiv1.Resource_Policy:
		return spec.Policy.GetService()
	}
	return ""
}

// text makes a key of strings. The byte after each, which none may hold, keeps
// one key from being the beginning of another.
func text(parts ...string) []byte {
	n := len(parts)
	for _, part := range parts {
		n += len(part)
	}
	key := make([]byte, 0, n)
	for _, part := range parts {
		key = append(append(key, part...), 0)
	}
	return key
}

// number makes a key that sorts as the number does.
func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func table(name string, indexes ...*memdb.IndexSchema) *memdb.TableSchema {
	t := &memdb.TableSchema{Name: name, Indexes: map[string]*memdb.IndexSchema{}}
	for _, index := range indexes {
		t.Indexes[index.Name] = index
	}
	return t
}

func unique[T any](name string, key func(T) []byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, Unique: true, Indexer: indexer[T]{key}}
}

func shared[T any](name string, key func(T) []byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, Indexer: indexer[T]{key}}
}

// only is the index of a table with one row.
func only[T proto.Message]() *memdb.IndexSchema {
	return unique(byID, func(T) []byte { return text("") })
}

// An indexer finds rows by a key taken from them.
type indexer[T any] struct{ key func(T) []byte }

func (x indexer[T]) FromObject(row any) (bool, []byte, error) {
	return true, x.key(row.(T)), nil
}

// FromArgs takes the key as it is.
func (x indexer[T]) FromArgs(args ...any) ([]byte, error) {
	return args[0].([]byte), nil
}

// destinations finds routes by the services that they send calls to.
type destinations struct{ indexer[*apiv1.Resource] }

func (destinations) FromObject(row any) (bool, [][]byte, error) {
	r := row.(*apiv1.Resource)
	if r.GetRoute() == nil {
		return false, nil, nil
	}
	var keys [][]byte
	for _, service := range mesh.Concerns(r)[1:] { // after the one it belongs to
		keys = append(keys, text(service))
	}
	return len(keys) > 0, keys, nil
}
