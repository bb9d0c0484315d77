package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

var update = flag.Bool("update", false, "write the golden snapshot if there is none; one that is there stays as it is")

// A golden of each feature level: v1 is of the first version of meshd.
var goldens = map[string]uint64{"testdata/v1": 20, "testdata/v2": 29}

const newestGolden = "testdata/v2"

// fullMesh has rows in every table.
func fullMesh(t *testing.T) *testMesh {
	m := newMesh(t)
	m.ok(&command.PutServer{Server: server("s2"), TokenId: "any", TimeUnix: now})
	m.ok(join("n1", "vm1", "any"))
	m.ok(join("n2", "vm2", "any"))
	m.ok(join("n3", "vm3", "any"))
	m.ok(lease("n1", 1))
	m.ok(&command.RemoveNode{NodeId: "n3"})
	i := instance("web", "web")
	i.Meta, i.Tags = map[string]string{"a": "1", "b": "2", "c": "3"}, []string{"blue"}
	m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{i, instance("db", "db")}})
	m.ok(set(serviceResource("web"), route("canary", "web"), policy("web", "web"), meshResource(60)))
	m.ok(&command.PutToken{Token: &apiv1.Token{Id: "whole", SecretHash: sum('w'), ExpiresUnix: now + 60, WholeCatalogue: true}})
	m.ok(join("n4", "vm4", "whole"))
	m.ok(&command.PutAccessToken{Token: accessToken("ci")})
	m.ok(audited(unset("policy", "web")))
	m.apply(audited(unset("policy", "web"))) // refused, and recorded
	m.ok(&command.SetGossipKeys{Keys: &apiv1.GossipKeys{Sealed: [][]byte{[]byte("first"), []byte("second")}, RotatedUnix: now}})
	m.ok(&command.ChangeAuthority{Authority: rotating(m.db.Read().Authority(nil)), FromIndex: 11})
	m.ok(&command.RestoreState{Id: "r1", Data: []byte("part"), TimeUnix: now})
	m.ok(&command.Recover{Recovery: 1, ServerIds: []string{"s1"}, TimeUnix: now})
	return m
}

func accessToken(id string) *apiv1.AccessToken {
	return &apiv1.AccessToken{
		Id: id, SecretHash: sum('a'), Role: apiv1.Role_ROLE_OPERATOR, Description: "pipeline", CreatedBy: "user root", CreatedUnix: now, ExpiresUnix: now + 60,
	}
}

// rotating is the authority with a rotation begun.
func rotating(a *apiv1.Authority) *apiv1.Authority {
	a = proto.CloneOf(a)
	next := initCluster().Authority
	next.RootCertificate = []byte("next root")
	a.Generation++
	a.OtherRoots = [][]byte{next.RootCertificate}
	a.Rotation = &apiv1.Rotation{Phase: apiv1.Rotation_PHASE_TRUST, StartedUnix: now, PhaseUnix: now, Next: next, StartedBy: "user root"}
	return a
}

// Snapshots that were ever written are read for good.
func TestGoldenSnapshots(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	for name, index := range goldens {
		t.Run(name, func(t *testing.T) { checkGolden(t, name, index) })
	}
}

func checkGolden(t *testing.T, golden string, index uint64) {
	b, err := os.ReadFile(golden + ".snapshot")
	if err != nil {
		t.Fatal(err)
	}
	m := &testMesh{T: t, db: New()}
	if err := m.db.Restore(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(golden + ".txtpb")
	if err != nil {
		t.Fatal(err)
	}
	var want []*Record
	for part := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n---\n") {
		r := &Record{}
		if err := prototext.Unmarshal([]byte(part), r); err != nil {
			t.Fatal(err)
		}
		want = append(want, r)
	}
	m.same(want, m.rows())
	if got := m.db.Read().Index(nil); got != index {
		t.Errorf("the index is %d", got)
	}
	if !bytes.Equal(b, snapshot(t, m.db)) {
		t.Error("it is written differently now")
	}
}

func writeGolden(t *testing.T) {
	if _, err := os.Stat(newestGolden + ".snapshot"); err == nil {
		return
	}
	m := fullMesh(t)
	var text []string
	for _, r := range m.rows() {
		text = append(text, strings.TrimSpace(prototext.MarshalOptions{Multiline: true}.Format(r)))
	}
	write := func(ext string, b []byte) {
		if err := os.WriteFile(newestGolden+ext, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(".snapshot", snapshot(t, m.db))
	write(".txtpb", []byte(strings.Join(text, "\n---\n")+"\n"))
}

func TestSnapshotIsAMoment(t *testing.T) {
	m := fullMesh(t)
	s := m.db.Snapshot()
	want := snapshot(t, m.db)
	m.ok(&command.RemoveNode{NodeId: "n1"})
	var got bytes.Buffer
	if _, err := s.WriteTo(&got); err != nil || !bytes.Equal(want, got.Bytes()) {
		t.Fatalf("a snapshot moved (%v)", err)
	}
}

func TestRestore(t *testing.T) {
	m := fullMesh(t)
	b := snapshot(t, m.db)
	other := newMesh(t)
	if err := other.db.Restore(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	m.same(m.rows(), other.rows())
	if !bytes.Equal(b, snapshot(t, other.db)) {
		t.Fatal("a restored state is written differently")
	}
	other.index = m.index
	m.same(m.ok(join("n4", "vm4", "any")), other.ok(join("n4", "vm4", "any")))
	m.same(m.rows(), other.rows())
}

// A flip in any byte, and a cut, is found, and leaves the state as it was.
func TestRestoreRefusesDamage(t *testing.T) {
	b := snapshot(t, fullMesh(t).db)
	m := newMesh(t)
	before := snapshot(t, m.db)
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		if m.db.Restore(bytes.NewReader(bad)) == nil {
			t.Fatalf("restored with byte %d of %d changed", i, len(b))
		}
		if i%5 == 0 && m.db.Restore(bytes.NewReader(b[:i])) == nil {
			t.Fatalf("restored from %d of %d bytes", i, len(b))
		}
	}
	if m.db.Restore(bytes.NewReader(append(bytes.Clone(b), 0))) == nil {
		t.Fatal("restored with something after the end")
	}
	if !bytes.Equal(before, snapshot(t, m.db)) {
		t.Fatal("a refused snapshot changed the state")
	}
}

// forge writes a snapshot with a good hash of whatever records are given.
func forge(records ...*Record) []byte {
	var b bytes.Buffer
	w := newRecordWriter(&b)
	w.header(5)
	for _, r := range records {
		w.record(r)
	}
	if err := w.finish(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func TestRestoreRefuses(t *testing.T) {
	f := func(want string, b []byte) {
		t.Helper()
		err := New().Restore(bytes.NewReader(b))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	a, b := &Record{Row: &Record_Node{node("n1", "vm1")}}, &Record{Row: &Record_Node{node("n2", "vm1")}}
	newer := &Record{}
	newer.ProtoReflect().SetUnknown([]byte{0xfa, 0x07, 0})
	orphan := instance("web", "web")
	orphan.NodeId = "n1"
	f("cut short", nil)
	f("no snapshot", bytes.Repeat([]byte{'x'}, 100))
	f("update this server", forge(newer))
	f("the same id", forge(a, a))
	f("the same name", forge(a, b))
	f("not there", forge(&Record{Row: &Record_Instance{orphan}}))
	f("not there", forge(a, &Record{Row: &Record_Instance{orphan}}))
	f("not there", forge(&Record{Row: &Record_Resource{route("r", "web")}}))
	format := forge()
	format[11] = 2
	f("format 2", format)
	f("is the most", binary.BigEndian.AppendUint32(forge()[:headerLen], maxRecord+1))
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestRestorePassesOnErrors(t *testing.T) {
	broken := errors.New("disk on fire")
	if err := New().Restore(failingReader{broken}); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if _, err := New().Snapshot().WriteTo(failingWriter{broken}); !errors.Is(err, broken) {
		t.Fatal(err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// What is restored, however strange, can be read, written and restored again.
func FuzzRestore(f *testing.F) {
	good := snapshot(f, New())
	if b, err := os.ReadFile(newestGolden + ".snapshot"); err == nil {
		good = b
	}
	f.Add(good, false)
	f.Add(good[headerLen:len(good)-sha256.Size], true)
	f.Add(forge(&Record{Row: &Record_Node{&apiv1.Node{}}})[headerLen:], true)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal { // the fuzzer does not find hashes by itself
			b = append(bytes.Clone(forge()[:headerLen]), b...)
			h := sha256.Sum256(b)
			b = append(b, h[:]...)
		}
		db := New()
		if db.Restore(bytes.NewReader(b)) != nil {
			return
		}
		again := New()
		if err := again.Restore(bytes.NewReader(snapshot(t, db))); err != nil {
			t.Fatal(err)
		}
		db.Apply(1<<40, &command.SetResources{Put: []*apiv1.Resource{serviceResource("new")}})
		var rows []proto.Message
		db.Snapshot().records(func(r *Record) { rows = append(rows, r) })
	})
}
