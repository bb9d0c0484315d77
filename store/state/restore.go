package state

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"

	"github.com/hashicorp/go-memdb"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// maxRecord is the most bytes that a record may have.
const maxRecord = 64 << 20

// Restore puts the state that a snapshot holds in place of the present one and
// wakes every watch on that. All of the snapshot is read and checked before
// anything changes; after an error the state is as it was.
func (db *DB) Restore(r io.Reader) error {
	restored, err := readSnapshot(r)
	if err != nil {
		return fmt.Errorf("restoring the state from a snapshot: %w", err)
	}
	old := db.current.Swap(restored)
	close(old.replaced)
	return nil
}

func readSnapshot(r io.Reader) (*tables, error) {
	in := &recordReader{in: bufio.NewReader(r), hash: sha256.New()}
	index, err := in.header()
	if err != nil {
		return nil, err
	}
	t := newState(newTables())
	b := &builder{Txn: Txn{txn: t.mem.Txn(true)}, schema: t.mem.DBSchema(), alike: t.alike, hosted: map[string][]*apiv1.Instance{}, taken: map[string]bool{}}
	for n := 1; ; n++ {
		record, err := in.record()
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", n, err)
		}
		if record == nil {
			break
		}
		if err := b.add(record); err != nil {
			return nil, fmt.Errorf("record %d: %w", n, err)
		}
	}
	if err := in.finish(); err != nil {
		return nil, err
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	mustDo(b.txn.Insert(markTable, mark{appliedMark, index}))
	b.txn.Commit()
	return t, nil
}

// A builder fills empty tables with rows.
type builder struct {
	Txn
	schema *memdb.DBSchema
	alike  likeness
	hosted map[string][]*apiv1.Instance // by node
	// Tables and keys that are taken. To look into the tables between writes would
	// have them copied again and again.
	taken map[string]bool
}

func (b *builder) add(r *Record) error {
	switch row := r.Row.(type) {
	case *Record_Cluster:
		return b.insert(clusterTable, row.Cluster)
	case *Record_Authority:
		return b.insert(authorityTable, row.Authority)
	case *Record_Server:
		return b.insert(serverTable, row.Server)
	case *Record_Node:
		return b.insert(nodeTable, row.Node)
	case *Record_Service:
		return b.insert(serviceTable, row.Service)
	case *Record_Instance:
		return b.insertInstance(row.Instance)
	case *Record_Resource:
		return b.insert(resourceTable, row.Resource)
	case *Record_Token:
		return b.insert(tokenTable, row.Token)
	case *Record_RemovedNode:
		return b.insert(removedTable, row.RemovedNode)
	case *Record_AccessToken:
		return b.insert(accessTable, row.AccessToken)
	case *Record_Audit:
		return b.insert(auditTable, row.Audit)
	case *Record_GossipKeys:
		return b.insert(gossipTable, row.GossipKeys)
	case *Record_StagedPart:
		return b.insert(stagedTable, row.StagedPart)
	case *Record_Marks:
		mustDo(b.txn.Insert(markTable, mark{meshMark, row.Marks.MeshIndex}))
		mustDo(b.txn.Insert(markTable, mark{forgottenMark, row.Marks.ForgottenIndex}))
		mustDo(b.txn.Insert(markTable, mark{restoredMark, row.Marks.RestoredIndex}))
		return nil
	}
	return errors.New("it is of a kind that this version of meshd does not know: a newer one wrote the snapshot, so update this server")
}

// insert refuses a row that has a name, or another unique thing, of a row that
// is there: the tables would keep parts of both.
func (b *builder) insert(table string, row proto.Message) error {
	indexes := b.schema.Tables[table].Indexes
	for _, name := range slices.Sorted(maps.Keys(indexes)) {
		index := indexes[name]
		if !index.Unique {
			continue
		}
		_, key, err := index.Indexer.(memdb.SingleIndexer).FromObject(row)
		mustDo(err)
		place := table + " " + name + " " + string(key)
		if b.taken[place] {
			return fmt.Errorf("there are two rows of table %s with the same %s %q", table, name, key)
		}
		b.taken[place] = true
	}
	mustDo(b.txn.Insert(table, row))
	return nil
}

// insertInstance expects the instances of a node in the order of their ids, as
// every snapshot has them.
func (b *builder) insertInstance(i *apiv1.Instance) error {
	before := b.hosted[i.NodeId]
	if n := len(before); n > 0 && before[n-1].Id >= i.Id {
		return fmt.Errorf("instance %q of the host %q is there twice, or in the wrong place", i.Id, i.NodeId)
	}
	b.alike.share(i)
	b.hosted[i.NodeId] = append(before, i)
	mustDo(b.txn.Insert(instanceTable, i))
	return nil
}

// check makes sure that what rows refer to is there.
func (b *builder) check() error {
	if level := b.FeatureLevel(nil); level > command.MaxLevel {
		return fmt.Errorf("it is of a mesh at feature level %d, and this version of meshd knows only level %d: update this server", level, command.MaxLevel)
	}
	services := map[string]string{}
	each(&b.Txn, serviceTable, func(s *apiv1.ServiceIndex) { services[s.Name] = s.Name })
	for _, id := range slices.Sorted(maps.Keys(b.hosted)) {
		if err := b.checkHosted(id, b.hosted[id], services); err != nil {
			return err
		}
	}
	for _, r := range b.Resources(nil, "") {
		if s := serviceOf(r); s != "" && services[s] == "" {
			return fmt.Errorf("resource %q is about the service %q, which is not there", r.Name, s)
		}
	}
	return nil
}

// checkHosted also makes the row of what the host runs. Of the names of nodes and
// services, one string is enough.
func (b *builder) checkHosted(nodeID string, instances []*apiv1.Instance, services map[string]string) error {
	node := b.Node(nil, nodeID)
	if node == nil {
		return fmt.Errorf("instance %q is on the host %q, which is not there", instances[0].Id, nodeID)
	}
	for _, i := range instances {
		service := services[i.Service]
		if service == "" {
			return fmt.Errorf("instance %q is of the service %q, which is not there", i.Id, i.Service)
		}
		i.NodeId, i.Service = node.Id, service
	}
	mustDo(b.txn.Insert(hostedTable, &hosted{node.Id, slices.Clone(instances)}))
	return nil
}

var errCutShort = errors.New("the snapshot is cut short")

type recordReader struct {
	in   *bufio.Reader
	hash hash.Hash
}

func (r *recordReader) header() (index uint64, err error) {
	b, err := r.read(headerLen)
	if err != nil {
		return 0, err
	}
	if string(b[:8]) != snapshotMagic {
		return 0, errors.New("this is no snapshot of meshd's state")
	}
	if format := binary.BigEndian.Uint32(b[8:]); format != snapshotFormat {
		return 0, fmt.Errorf("it has format %d, this version of meshd knows only format %d: a newer one wrote it, so update this server", format, snapshotFormat)
	}
	return binary.BigEndian.Uint64(b[12:]), nil
}

// record gives the next record, nil at the end.
func (r *recordReader) record() (*Record, error) {
	b, err := r.read(4)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(b)
	if n == 0 {
		return nil, nil
	}
	if n > maxRecord {
		return nil, fmt.Errorf("it says it has %d bytes, and %d is the most", n, maxRecord)
	}
	if b, err = r.read(int64(n)); err != nil {
		return nil, err
	}
	record := &Record{}
	if err := proto.Unmarshal(b, record); err != nil {
		return nil, fmt.Errorf("it cannot be decoded: %w", err)
	}
	return record, nil
}

// finish checks the hash, and that nothing comes after it.
func (r *recordReader) finish() error {
	want := r.hash.Sum(nil)
	got, err := r.read(sha256.Size)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("the snapshot is damaged: its hash does not match")
	}
	if _, err := r.in.ReadByte(); err != io.EOF {
		return errors.New("the snapshot is damaged: something follows its end")
	}
	return nil
}

// read takes memory only for what is really there, whatever a length says.
func (r *recordReader) read(n int64) ([]byte, error) {
	var b bytes.Buffer
	_, err := io.CopyN(&b, r.in, n)
	if err == io.EOF {
		return nil, errCutShort
	}
	if err != nil {
		return nil, err
	}
	r.hash.Write(b.Bytes())
	return b.Bytes(), nil
}
