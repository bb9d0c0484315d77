package leader

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

func TestServersAreDeadAfterAWhile(t *testing.T) {
	start := time.Unix(0, 0)
	o := newOrphans(start.Add(grace))
	set := func(ids ...string) map[string]bool {
		m := map[string]bool{}
		for _, id := range ids {
			m[id] = true
		}
		return m
	}
	f := func(after time.Duration, alive map[string]bool, want bool) {
		t.Helper()
		if got := o.dead(start.Add(after), set("s1", "s2"), alive)["s2"]; got != want {
			t.Errorf("after %v: dead is %v, want %v", after, got, want)
		}
	}
	f(0, set("s1"), false)
	f(deadFor, set("s1"), false) // a new leader waits longer
	f(grace, set("s1"), true)
	f(grace+time.Second, set("s1", "s2"), false)
	f(grace+2*time.Second, set("s1"), false)
	f(grace+2*time.Second+deadFor, set("s1"), true)
	o.dead(start, set("s1"), set("s1"))
	if len(o.since) != 0 {
		t.Errorf("servers that hold no lease are remembered: %v", o.since)
	}
}

func TestSpentTokens(t *testing.T) {
	f := func(token *apiv1.Token, want bool) {
		t.Helper()
		if got := spent(token, time.Unix(1000, 0)); got != want {
			t.Errorf("%v: spent is %v, want %v", token, got, want)
		}
	}
	f(&apiv1.Token{ExpiresUnix: 1001}, false)
	f(&apiv1.Token{ExpiresUnix: 1000}, true)
	f(&apiv1.Token{ExpiresUnix: 2000, UsedUnix: 1001}, false)
	f(&apiv1.Token{ExpiresUnix: 2000, UsedUnix: 1000}, true)
	f(&apiv1.Token{ExpiresUnix: 2000, UsedUnix: 1000, Reusable: true}, false)
}

// A fakeReplica is a state of one host, whose lease is with server s2.
type fakeReplica struct {
	db      *state.DB
	index   uint64
	answers bool // s2 does
}

func (r *fakeReplica) Local() *state.Txn { return r.db.Read() }

func (r *fakeReplica) Propose(_ context.Context, msg proto.Message) (*command.Result, error) {
	r.index++
	return r.db.Apply(r.index, msg), nil
}

func (r *fakeReplica) Progress(context.Context, string, string) (*apiv1.ProgressReply, error) {
	if r.answers {
		return &apiv1.ProgressReply{Applied: r.index}, nil
	}
	return nil, errors.New("nobody answers")
}

func newFakeReplica(t *testing.T) *fakeReplica {
	t.Helper()
	hash := func(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:] }
	server := func(id string) *apiv1.Server {
		return &apiv1.Server{Id: id, Name: id, Address: id + ":7300", GossipAddress: id + ":7301", KeyHash: hash(id)}
	}
	r := &fakeReplica{db: state.New()}
	for _, msg := range []proto.Message{
		&command.InitCluster{
			Cluster:   &apiv1.Cluster{Id: "c1", TrustDomain: "mesh"},
			Authority: &apiv1.Authority{TrustDomain: "mesh", RootCertificate: []byte("r"), IssuingCertificate: []byte("i"), SealedIssuingKey: []byte("k")},
			Server:    server("s1"),
		},
		&command.PutToken{Token: &apiv1.Token{Id: "s", SecretHash: hash("s"), ExpiresUnix: 100, Server: true}},
		&command.PutServer{TokenId: "s", TimeUnix: 1, Server: server("s2")},
		&command.PutToken{Token: &apiv1.Token{Id: "t", SecretHash: hash("t"), ExpiresUnix: 100}},
		&command.PutNode{TokenId: "t", TimeUnix: 1, Node: &apiv1.Node{Id: "h1", Name: "h1", Address: "10.0.0.9", InboundPort: 7443, KeyHash: hash("h1")}},
		&command.TakeLease{NodeId: "h1", ServerId: "s2", Epoch: 1},
	} {
		if result, _ := r.Propose(t.Context(), msg); result.Refusal != command.Refusal_REFUSAL_NONE {
			t.Fatalf("%T: %s", msg, result.Message)
		}
	}
	return r
}

// Gossip alone is no reason to end the leases of a server that works.
func TestLeasesOfAServerThatAnswersAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFakeReplica(t)
		l := New(Config{Self: "s1", Replica: r, Logger: slog.New(slog.DiscardHandler), Members: func() []gossip.Member { return nil }})
		o := newOrphans(time.Now())
		pass := func(d time.Duration, want apiv1.NodeState) {
			t.Helper()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(orphanInterval) {
				l.endOrphans(t.Context(), o)
			}
			if got := r.Local().Node(nil, "h1").State; got != want {
				t.Errorf("the host is %v, want %v", got, want)
			}
		}
		r.answers = true
		pass(time.Minute, apiv1.NodeState_NODE_STATE_ALIVE)
		r.answers = false
		pass(2*deadFor, apiv1.NodeState_NODE_STATE_LOST)
	})
}
