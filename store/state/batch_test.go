package state

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// However the log is cut into batches, it gives the same results and the same
// state as one entry after the other.
func TestBatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		single, batched := New(), New()
		r := &random{T: t, one: single}
		pending := []Entry{}
		var want []*command.Result
		add := func(msg proto.Message) {
			r.index += rapid.Uint64Range(1, 3).Draw(t, "index")
			pending = append(pending, Entry{r.index, msg})
			want = append(want, single.Apply(r.index, proto.Clone(msg)))
		}
		flush := func(t *rapid.T) {
			got := batched.ApplyAll(pending)
			if len(got) != len(want) {
				t.Fatalf("%d results of %d entries", len(got), len(want))
			}
			for i := range want {
				if !proto.Equal(want[i], got[i]) {
					t.Fatalf("%v\nbecame  %v\nwant    %v", pending[i].Msg, got[i], want[i])
				}
			}
			if !bytes.Equal(snapshot(t, single), snapshot(t, batched)) {
				t.Fatalf("the states differ after the batch %v", pending)
			}
			pending, want = nil, nil
		}
		add(initCluster())
		add(&command.PutToken{Token: &apiv1.Token{Id: "t0", SecretHash: sum('t'), ExpiresUnix: now + 5, Server: true, Reusable: true}})
		add(join("n1", "vm1", "t0"))
		add(lease("n1", 1))
		t.Repeat(map[string]func(*rapid.T){
			"command": func(t *rapid.T) { r.T = t; add(r.command()) },
			"flush":   flush,
		})
		flush(t)
	})
}

// Watchers are woken once for a batch.
func TestABatchIsSeenAtOnce(t *testing.T) {
	m := newMesh(t)
	var ws WatchSet
	before := m.db.Read()
	before.ServicesSince(&ws, 0)
	m.db.ApplyAll([]Entry{{m.index + 1, set(serviceResource("a"))}, {m.index + 2, set(serviceResource("b"))}, {m.index + 3, nil}})
	if err := ws.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := m.db.Read(); len(now.Services(nil)) != 2 || now.Index(nil) != m.index+3 || len(before.Services(nil)) != 0 {
		t.Errorf("services %v at %d", now.Services(nil), now.Index(nil))
	}
}
