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
	each(all[*apiv1.Cluster](t, nil, clusterTable), func(r *apiv1.Cluster) { emit(&Record{Row: &Record_Cluster{r}}) })
	each(all[*apiv1.Authority](t, nil, authorityTable), func(r *apiv1.Authority) { emit(&Record{Row: &Record_Authority{r}}) })
	each(t.Servers(nil), func(r *apiv1.Server) { emit(&Record{Row: &Record_Server{r}}) })
	each(t.Nodes(nil), func(r *apiv1.Node) { emit(&Record{Row: &Record_Node{r}}) })
	each(all[*RemovedNode](t, nil, removedTable), func(r *RemovedNode) { emit(&Record{Row: &Record_RemovedNode{r}}) })
	each(t.Services(nil), func(r *apiv1.ServiceIndex) { emit(&Record{Row: &Record_Service{r}}) })
	each(all[*apiv1.Instance](t, nil, instanceTable), func(r *apiv1.Instance) { emit(&Record{Row: &Record_Instance{r}}) })
	each(t.Resources(nil, ""), func(r *apiv1.Resource) { emit(&Record{Row: &Record_Resource{r}}) })
	each(t.Tokens(nil), func(r *apiv1.Token) { emit(&Record{Row: &Record_Token{r}}) })
	each(t.AccessTokens(nil), func(r *apiv1.AccessToken) { emit(&Record{Row: &Record_AccessToken{r}}) })
	each(all[*apiv1.AuditRecord](t, nil, auditTable), func(r *apiv1.AuditRecord) { emit(&Record{Row: &Record_Audit{r}}) })
	each(t.staged(), func(r *StagedPart) { emit(&Record{Row: &Record_StagedPart{r}}) })
	each(all[*apiv1.GossipKeys](t, nil, gossipTable), func(r *apiv1.GossipKeys) { emit(&Record{Row: &Record_GossipKeys{r}}) })
}

func each[T any](rows []T, f func(T)) {
	for _, row := range rows {
		f(row)
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
