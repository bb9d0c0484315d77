package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/meshd/meshd/internal/version"
	"github.com/meshd/meshd/store/state"
)

// A saved snapshot is, all numbers big-endian:
//
//	magic    8
//	format   4
//	header     length 4, then a SnapshotMeta as JSON
//	state      pieces, each: length 4, then so many bytes; together a snapshot of package state
//	end      4 a length of 0
//	hash    32 SHA-256 of all before
const (
	archiveMagic  = "MESHDSAV"
	archiveFormat = 1
	maxHeader     = 64 << 10
	pieceSize     = 256 << 10
)

// SnapshotMeta says what a saved snapshot is of. All but Size and SHA256 are in
// its header.
type SnapshotMeta struct {
	ClusterID    string    `json:"cluster_id"`
	ClusterName  string    `json:"cluster_name"`
	TrustDomain  string    `json:"trust_domain"`
	Server       string    `json:"server"` // id of the one that saved it
	Index        uint64    `json:"index"`  // of the last change in it
	Term         uint64    `json:"term"`   // in which it was saved
	Time         time.Time `json:"time"`
	Version      string    `json:"version"` // of meshd
	FeatureLevel uint32    `json:"feature_level"`
	Recovery     uint32    `json:"recovery"`

	Size   int64  `json:"-"` // in bytes, the header included
	SHA256 string `json:"-"` // of all before the hash itself
}

// SnapshotInfo is what is in a saved snapshot that is sound.
type SnapshotInfo struct {
	SnapshotMeta
	// Rows counts what is in it by kind, such as "node" and "instance".
	Rows map[string]int
}

// SaveSnapshot writes the state of this server as it is now, for InspectSnapshot
// and RestoreSnapshot. Changes go on meanwhile and are not in it. Whoever wants
// all that was acknowledged before waits with ReadAt for the leader's ReadIndex.
func (s *Store) SaveSnapshot(ctx context.Context, w io.Writer) (SnapshotMeta, error) {
	meta, err := writeArchive(&untilDone{w, ctx}, s.db.Snapshot(), SnapshotMeta{
		Server: s.config.ID, Term: s.raft.CurrentTerm(), Time: time.Now().UTC().Truncate(time.Second), Version: version.Version(),
	})
	if err != nil {
		return SnapshotMeta{}, fmt.Errorf("saving a snapshot: %w", err)
	}
	return meta, nil
}

// untilDone refuses to write once ctx has ended.
type untilDone struct {
	io.Writer
	ctx context.Context
}

func (w *untilDone) Write(b []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.Writer.Write(b)
}

func writeArchive(w io.Writer, snapshot *state.Snapshot, meta SnapshotMeta) (SnapshotMeta, error) {
	cluster := snapshot.Read().Cluster(nil)
	if cluster == nil {
		return meta, errors.New("there is no mesh yet, and so nothing to save")
	}
	meta.ClusterID, meta.ClusterName, meta.TrustDomain = cluster.Id, cluster.Name, cluster.TrustDomain
	meta.Index, meta.FeatureLevel, meta.Recovery = snapshot.Index(), max(1, cluster.FeatureLevel), cluster.Recovery
	header, err := json.Marshal(meta)
	if err != nil {
		return meta, err
	}
	out := &archiveWriter{out: w, hash: sha256.New()}
	out.write(binary.BigEndian.AppendUint32([]byte(archiveMagic), archiveFormat))
	out.piece(header)
	if _, err := snapshot.WriteTo(out); err != nil {
		return meta, err
	}
	meta.SHA256, err = out.finish()
	meta.Size = out.n
	return meta, err
}

// An archiveWriter collects what is written to it into pieces. Its first error
// stays.
type archiveWriter struct {
	out  io.Writer
	hash hash.Hash
	buf  []byte
	n    int64
	err  error
}

func (w *archiveWriter) Write(b []byte) (int, error) {
	w.buf = append(w.buf, b...)
	for len(w.buf) >= pieceSize {
		w.piece(w.buf[:pieceSize])
		w.buf = w.buf[:copy(w.buf, w.buf[pieceSize:])]
	}
	return len(b), w.err
}

func (w *archiveWriter) piece(b []byte) {
	w.write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
	w.write(b)
}

func (w *archiveWriter) write(b []byte) {
	if w.err != nil {
		return
	}
	w.hash.Write(b)
	n, err := w.out.Write(b)
	w.n, w.err = w.n+int64(n), err
}

func (w *archiveWriter) finish() (sum string, err error) {
	if len(w.buf) > 0 {
		w.piece(w.buf)
	}
	w.piece(nil)
	hash := w.hash.Sum(nil)
	w.write(hash)
	return hex.EncodeToString(hash), w.err
}

// InspectSnapshot reads all of a saved snapshot, checks its hash and that its
// rows fit together, and says what is in it.
func InspectSnapshot(r io.Reader) (*SnapshotInfo, error) {
	info, _, err := ReadSnapshot(r)
	return info, err
}

// ReadSnapshot is InspectSnapshot for those who want what is in it.
func ReadSnapshot(r io.Reader) (*SnapshotInfo, *state.Snapshot, error) {
	meta, snapshot, err := readArchive(r)
	if err != nil {
		return nil, nil, fmt.Errorf("reading a saved snapshot: %w", err)
	}
	return &SnapshotInfo{meta, snapshot.Rows()}, snapshot, nil
}

var (
	errNoArchive = errors.New("this is no snapshot that meshd saved")
	errCutShort  = errors.New("the snapshot is cut short")
)

func readArchive(r io.Reader) (meta SnapshotMeta, snapshot *state.Snapshot, err error) {
	in := &archiveReader{in: r, hash: sha256.New()}
	if meta, err = in.header(); err != nil {
		return meta, nil, err
	}
	// Should there be an error, that of a broken file says more than that of
	// what was read from it.
	snapshot, loadErr := state.Load(in)
	_, err = io.Copy(io.Discard, in)
	if meta.SHA256, err = in.finish(err); err != nil {
		return meta, nil, err
	}
	if loadErr != nil {
		return meta, nil, loadErr
	}
	meta.Size = in.n
	return meta, snapshot, checkMeta(meta, snapshot)
}

// checkMeta makes sure that the header, which is shown and believed, belongs to
// the state.
func checkMeta(meta SnapshotMeta, snapshot *state.Snapshot) error {
	c := snapshot.Read().Cluster(nil)
	if c.GetId() != meta.ClusterID || c.GetTrustDomain() != meta.TrustDomain || snapshot.Index() != meta.Index || max(1, c.GetFeatureLevel()) != meta.FeatureLevel {
		return errors.New("the snapshot is damaged: its header does not belong to its content")
	}
	return nil
}

// An archiveReader gives what is in the pieces.
type archiveReader struct {
	in    io.Reader
	hash  hash.Hash
	n     int64
	left  int // of the present piece
	ended bool
}

func (r *archiveReader) header() (meta SnapshotMeta, err error) {
	b, err := r.take(len(archiveMagic) + 4)
	if err != nil || string(b[:len(archiveMagic)]) != archiveMagic {
		return meta, errors.Join(errNoArchive, err)
	}
	if format := binary.BigEndian.Uint32(b[len(archiveMagic):]); format != archiveFormat {
		return meta, fmt.Errorf("the snapshot has format %d, this version of meshd knows only format %d: a newer one saved it, so use that", format, archiveFormat)
	}
	n, err := r.length()
	if err != nil {
		return meta, err
	}
	if n > maxHeader {
		return meta, fmt.Errorf("the snapshot is damaged: its header says it has %d bytes, and %d is the most", n, maxHeader)
	}
	if b, err = r.take(n); err != nil {
		return meta, err
	}
	if err := json.Unmarshal(b, &meta); err != nil {
		return meta, fmt.Errorf("the snapshot is damaged: its header cannot be read: %w", err)
	}
	return meta, nil
}

func (r *archiveReader) Read(b []byte) (int, error) {
	if r.left == 0 && !r.ended {
		n, err := r.length()
		if err != nil {
			return 0, err
		}
		r.left, r.ended = n, n == 0
	}
	if r.ended {
		return 0, io.EOF
	}
	n, err := r.in.Read(b[:min(len(b), r.left)])
	r.hash.Write(b[:n])
	r.n, r.left = r.n+int64(n), r.left-n
	if err == io.EOF && n == 0 {
		return 0, errCutShort
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

func (r *archiveReader) length() (int, error) {
	b, err := r.take(4)
	if err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(b)
	if n > 1<<30 {
		return 0, fmt.Errorf("the snapshot is damaged: it says that a piece has %d bytes", n)
	}
	return int(n), nil
}

// take reads n bytes, which are few.
func (r *archiveReader) take(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(r.in, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errCutShort
		}
		return nil, err
	}
	r.hash.Write(b)
	r.n += int64(n)
	return b, nil
}

// finish checks the hash, and that nothing comes after it.
func (r *archiveReader) finish(err error) (string, error) {
	if err != nil {
		return "", err
	}
	want := r.hash.Sum(nil)
	got, err := r.take(sha256.Size)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(got, want) {
		return "", errors.New("the snapshot is damaged: its hash does not match")
	}
	var more [1]byte
	if n, err := io.ReadFull(r.in, more[:]); n != 0 || err != io.EOF {
		return "", errors.Join(errors.New("the snapshot is damaged: something follows its end"), err)
	}
	return hex.EncodeToString(want), nil
}
