package state

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// A snapshot is, all numbers big-endian:
//
//	magic    8
//	format   4
//	index    8  of the last entry applied
//	records     each: length 4, then a Record
//	end      4  a length of 0
//	hash    32  SHA-256 of all before
const (
	snapshotMagic  = "MESHDSNP"
	snapshotFormat = 1
	headerLen      = 8 + 4 + 8
)

// A Snapshot is the state at one moment, to be written out while the state goes
// on. Equal states are written as equal bytes.
type Snapshot struct {
	txn *Txn
}

// Snapshot takes a snapshot at no cost.
func (db *DB) Snapshot() *Snapshot { return &Snapshot{db.Read()} }

// Index is that of the last log entry in the snapshot.
func (s *Snapshot) Index() uint64 { return s.txn.Index(nil) }

// WriteTo writes the snapshot as Restore reads it.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	out := newRecordWriter(w)
	out.header(s.Index())
	s.records(out.record)
	if err := out.finish(); err != nil {
		return out.n, fmt.Errorf("writing a snapshot of the state: %w", err)
	}
	return out.n, nil
}

// records gives every row, those first that others refer to.
func (s *Snapshot) records(emit func(*Record)) {
	t := s.txn
	emit(&Record{Row: &Record_Marks{&Marks{
		MeshIndex: t.mark(nil, meshMark), ForgottenIndex: t.mark(nil, forgottenMark), RestoredIndex: t.mark(nil, restoredMark),
	}}})
	each(t, clusterTable, func(r *apiv1.Cluster) { emit(&Record{Row: &Record_Cluster{r}}) })
	each(t, authorityTable, func(r *apiv1.Authority) { emit(&Record{Row: &Record_Authority{r}}) })
	each(t, serverTable, func(r *apiv1.Server) { emit(&Record{Row: &Record_Server{r}}) })
	each(t, nodeTable, func(r *apiv1.Node) { emit(&Record{Row: &Record_Node{r}}) })
	each(t, removedTable, func(r *RemovedNode) { emit(&Record{Row: &Record_RemovedNode{r}}) })
	each(t, serviceTable, func(r *apiv1.ServiceIndex) { emit(&Record{Row: &Record_Service{r}}) })
	each(t, hostedTable, func(h *hosted) {
		for _, r := range h.instances {
			emit(&Record{Row: &Record_Instance{r}})
		}
	})
	each(t, resourceTable, func(r *apiv1.Resource) { emit(&Record{Row: &Record_Resource{r}}) })
	each(t, tokenTable, func(r *apiv1.Token) { emit(&Record{Row: &Record_Token{r}}) })
	each(t, accessTable, func(r *apiv1.AccessToken) { emit(&Record{Row: &Record_AccessToken{r}}) })
	each(t, auditTable, func(r *apiv1.AuditRecord) { emit(&Record{Row: &Record_Audit{r}}) })
	each(t, stagedTable, func(r *StagedPart) { emit(&Record{Row: &Record_StagedPart{r}}) })
	each(t, gossipTable, func(r *apiv1.GossipKeys) { emit(&Record{Row: &Record_GossipKeys{r}}) })
}

// each gives the rows of a table by their ids, one at a time.
func each[T any](t *Txn, table string, f func(T)) {
	it, err := t.txn.Get(table, byID)
	mustDo(err)
	for row := it.Next(); row != nil; row = it.Next() {
		f(row.(T))
	}
}

// A recordWriter writes and hashes; its first error stays.
type recordWriter struct {
	out  *bufio.Writer
	hash hash.Hash
	n    int64
	buf  []byte
	err  error
}

func newRecordWriter(w io.Writer) *recordWriter {
	return &recordWriter{out: bufio.NewWriter(w), hash: sha256.New()}
}

func (w *recordWriter) header(index uint64) {
	b := binary.BigEndian.AppendUint32([]byte(snapshotMagic), snapshotFormat)
	w.write(binary.BigEndian.AppendUint64(b, index))
}

func (w *recordWriter) record(r *Record) {
	if w.err != nil {
		return
	}
	w.buf, w.err = proto.MarshalOptions{Deterministic: true}.MarshalAppend(append(w.buf[:0], 0, 0, 0, 0), r)
	if w.err == nil {
		binary.BigEndian.PutUint32(w.buf, uint32(len(w.buf)-4))
		w.write(w.buf)
	}
}

func (w *recordWriter) finish() error {
	w.write([]byte{0, 0, 0, 0})
	w.write(w.hash.Sum(nil))
	if w.err == nil {
		w.err = w.out.Flush()
	}
	return w.err
}

func (w *recordWriter) write(b []byte) {
	if w.err != nil {
		return
	}
	w.hash.Write(b)
	n, err := w.out.Write(b)
	w.n, w.err = w.n+int64(n), err
}
