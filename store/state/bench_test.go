package state

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

type benchMesh struct {
	*testing.B
	db    *DB
	index uint64
}

// newBenchMesh has 1,000 hosts with 10 instances each, of 100 services.
func newBenchMesh(b *testing.B) *benchMesh {
	m := &benchMesh{B: b, db: New()}
	m.apply(initCluster())
	m.apply(&command.PutToken{Token: &apiv1.Token{Id: "any", SecretHash: sum('t'), ExpiresUnix: now + 1, Reusable: true}})
	for i := range 1000 {
		c := join(fmt.Sprintf("n%d", i), fmt.Sprintf("vm%d", i), "any")
		key := sha256.Sum256([]byte(c.Node.Id))
		c.Node.KeyHash = key[:]
		m.apply(c)
		m.apply(lease(c.Node.Id, 1))
		m.apply(m.instances(i, 0))
	}
	return m
}

func (m *benchMesh) instances(node, version int) *command.SetInstances {
	c := &command.SetInstances{NodeId: fmt.Sprintf("n%d", node)}
	for i := range 10 {
		x := instance(fmt.Sprintf("i%d", i), fmt.Sprintf("service%d", (node+10*i)%100))
		x.Meta = map[string]string{"version": fmt.Sprint(version)}
		c.Put = append(c.Put, x)
	}
	return c
}

func (m *benchMesh) apply(msg proto.Message) {
	m.index++
	if r := m.db.Apply(m.index, msg); r.Refusal != 0 {
		m.Fatal(r.Message)
	}
}

func BenchmarkSetInstances(b *testing.B) {
	m := newBenchMesh(b)
	b.ReportAllocs()
	version := 0
	for b.Loop() {
		version++
		m.apply(m.instances(version%1000, version))
	}
}

func BenchmarkTakeLease(b *testing.B) {
	m := newBenchMesh(b)
	b.ReportAllocs()
	epoch := uint64(1)
	for b.Loop() {
		epoch++
		m.apply(lease("n7", epoch))
	}
}

func BenchmarkSnapshot(b *testing.B) {
	m := newBenchMesh(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.db.Snapshot().WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRestore(b *testing.B) {
	m := newBenchMesh(b)
	snapshot := snapshot(b, m.db)
	b.SetBytes(int64(len(snapshot)))
	b.ReportAllocs()
	for b.Loop() {
		if err := New().Restore(bytes.NewReader(snapshot)); err != nil {
			b.Fatal(err)
		}
	}
}
