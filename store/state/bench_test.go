package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

type benchMesh struct {
	*testing.B
	db    *DB
	index uint64
}

// newBenchMesh has hosts with 10 instances each, of 100 services.
func newBenchMesh(b *testing.B, hosts int) *benchMesh {
	m := &benchMesh{B: b, db: New()}
	m.apply(initCluster())
	m.apply(&command.PutToken{Token: &apiv1.Token{Id: "any", SecretHash: sum('t'), ExpiresUnix: now + 1, Reusable: true}})
	for i := range hosts {
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
	m := newBenchMesh(b, 1000)
	b.ReportAllocs()
	version := 0
	for b.Loop() {
		version++
		m.apply(m.instances(version%1000, version))
	}
}

func BenchmarkTakeLease(b *testing.B) {
	m := newBenchMesh(b, 1000)
	b.ReportAllocs()
	epoch := uint64(1)
	for b.Loop() {
		epoch++
		m.apply(lease("n7", epoch))
	}
}

func BenchmarkSnapshot(b *testing.B) {
	m := newBenchMesh(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.db.Snapshot().WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRestore(b *testing.B) {
	m := newBenchMesh(b, 10000)
	snapshot := snapshot(b, m.db)
	b.SetBytes(int64(len(snapshot)))
	b.ReportAllocs()
	for b.Loop() {
		if err := New().Restore(bytes.NewReader(snapshot)); err != nil {
			b.Fatal(err)
		}
	}
}

// What changes cost while a snapshot of 100,000 instances is being written. Its
// writer shares the processors, and nothing else, with those who apply.
func BenchmarkApplyDuringSnapshot(b *testing.B) {
	m := newBenchMesh(b, 10000)
	f := func(name string, snapshots bool) {
		b.Run(name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			var writing sync.WaitGroup
			if snapshots {
				writing.Go(func() {
					for ctx.Err() == nil {
						m.db.Snapshot().WriteTo(io.Discard)
					}
				})
			}
			var took []time.Duration
			for version := 0; b.Loop(); version++ {
				start := time.Now()
				m.apply(m.instances(version%1000, version))
				took = append(took, time.Since(start))
			}
			cancel()
			writing.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
			b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-us")
		})
	}
	f("alone", false)
	f("snapshot", true)
}

// What one stream reads when it has been woken by a change: no more in a mesh
// with many services and hosts than in one with few.
func BenchmarkWakeUp(b *testing.B) {
	f := func(services int) {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			m := newBenchMesh(b, services/10)
			for i := range services {
				m.apply(set(serviceResource(fmt.Sprintf("more%d", i))))
			}
			m.apply(set(serviceResource("last")))
			b.ReportAllocs()
			for b.Loop() {
				var ws WatchSet
				if m.db.Read().readAsStream(&ws, m.index-1) != 1 {
					b.Fatal("a stream does not see the one change")
				}
			}
		})
	}
	f(100)
	f(10000)
}
