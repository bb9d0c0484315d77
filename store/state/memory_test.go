package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/store/command"
)

// heap is how many bytes are in use once all garbage is gone.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// logged applies a command as it comes out of the log.
func (m *testMesh) logged(msg proto.Message) {
	entry, err := command.Encode(msg)
	if err != nil {
		m.Fatal(err)
	}
	decoded, err := command.Decode(entry)
	if err != nil {
		m.Fatal(err)
	}
	m.ok(decoded)
}

// addHosts adds hosts from the one with that number on, with ten instances each
// of a hundred services.
func (m *testMesh) addHosts(from, n int) {
	for h := from; h < from+n; h++ {
		c := join(fmt.Sprintf("%016x", h*7919), fmt.Sprintf("vm%d", h), "any")
		key := sha256.Sum256([]byte(c.Node.Id))
		c.Node.KeyHash = key[:]
		m.logged(c)
		m.logged(lease(c.Node.Id, 1))
		set := &command.SetInstances{NodeId: c.Node.Id}
		for i := range 10 {
			name := fmt.Sprintf("service%d", (h+10*i)%100)
			x := instance(name, name)
			x.Meta, x.Tags = map[string]string{"version": "1.2.3", "zone": "a"}, []string{"blue"}
			set.Put = append(set.Put, x)
		}
		m.logged(set)
	}
}

// Budgets in bytes, a third above what was measured on amd64. To an instance
// belongs a tenth of its host.
const (
	instanceBudget = 1150
	restoredBudget = 1100
	streamBudget   = 14000 // twice as much when looked at by the race detector
	serviceBudget  = 700
)

func TestMemoryOfInstances(t *testing.T) {
	const hosts = 200
	m := newMesh(t)
	m.addHosts(0, 20) // what is there once
	before := heap()
	m.addHosts(20, hosts)
	m.within("an instance", (heap()-before)/(10*hosts), instanceBudget)

	saved, restored := snapshot(t, m.db), New()
	before = heap()
	if err := restored.Restore(bytes.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	m.within("a restored instance", (heap()-before)/(10*(hosts+20)), restoredBudget)
	runtime.KeepAlive(restored)
}

func (m *testMesh) within(what string, bytes, budget int64) {
	m.Helper()
	m.Logf("%s takes %d bytes of %d", what, bytes, budget)
	if bytes > budget {
		m.Errorf("%s takes %d bytes, and %d are the most", what, bytes, budget)
	}
}

// What it takes to wait for all that a stream waits for, and for each service
// by its name, stacks of goroutines included.
func TestMemoryOfWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.addHosts(0, 100)
		stream := m.waiting(500, func(txn *Txn, ws *WatchSet) { txn.readAsStream(ws, m.index) })
		m.within("the watch of a stream", stream, streamBudget)
		services := m.waiting(50, func(txn *Txn, ws *WatchSet) {
			for i := range 100 {
				txn.Service(ws, fmt.Sprintf("service%d", i))
			}
		})
		m.within("a service that is watched", services/100, serviceBudget)
	})
}

// readAsStream reads what tells a stream whether there is something to send.
func (t *Txn) readAsStream(ws *WatchSet, v uint64) (n int) {
	removed, _ := t.RemovedNodes(ws, v)
	t.MeshConfig(ws)
	t.Authority(ws)
	return len(t.ServicesSince(ws, v)) + len(t.NodesSince(ws, v)) + len(removed)
}

// waiting measures the bytes that each of n goroutines takes that wait for what
// they have read to change.
func (m *testMesh) waiting(n int, read func(*Txn, *WatchSet)) int64 {
	ctx, cancel := context.WithCancel(m.Context())
	var done sync.WaitGroup
	used := func() int64 {
		var s runtime.MemStats
		bytes := heap()
		runtime.ReadMemStats(&s)
		return bytes + int64(s.StackInuse)
	}
	before := used()
	for range n {
		done.Go(func() {
			var ws WatchSet
			read(m.db.Read(), &ws)
			ws.Wait(ctx)
		})
	}
	synctest.Wait()
	after := used()
	cancel()
	done.Wait()
	return (after - before) / int64(n)
}
