package rpc

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// maxRound is how many sets of resources go into one round at most.
const maxRound = 256

// rounds have resources written. All sets of a round are validated against what the
// round before has left, and then proposed together, so that they share Raft's
// writes to disk. Sets that could decide each other's validity go into different
// rounds. Whoever waits longest serves a round for all: there is no goroutine
// that outlives its caller.
type rounds struct {
	turn chan struct{} // has one value, of whoever serves a round

	mu      sync.Mutex
	waiting []*write

	// term is that in which the state is known to show all that was proposed, 0
	// after an unknown outcome. It belongs to whoever has the turn.
	term uint64
}

func newRounds() *rounds { return &rounds{turn: make(chan struct{}, 1)} }

// A write is a set of resources on its way.
type write struct {
	ctx  context.Context
	set  *command.SetResources
	msg  proto.Message // to be proposed: set, or what it is wrapped in
	done chan struct{}

	result *command.Result
	err    error
}

func (w *write) finish(result *command.Result, err error) {
	w.result, w.err = result, err
	close(w.done)
}

// setResources writes the set that msg carries, in a round with others. It waits
// until ctx ends.
func (r *Replica) setResources(ctx context.Context, set *command.SetResources, msg proto.Message) (*command.Result, error) {
	w := &write{ctx: ctx, set: set, msg: msg, done: make(chan struct{})}
	r.rounds.enter(w)
	for {
		select {
		case <-w.done:
			return w.result, w.err
		case r.rounds.turn <- struct{}{}:
			r.serveRound(ctx)
			<-r.rounds.turn
		case <-ctx.Done():
			if r.rounds.withdraw(w) {
				return nil, again(fmt.Errorf("waiting for other changes of resources: %w", ctx.Err()))
			}
			<-w.done // its proposal has the same context, and ends
			return w.result, w.err
		}
	}
}

// serveRound serves whoever waits. All that was proposed before must show in the
// state that sets are validated against, even if its writer was never told of
// it: hence the barrier in a new term and after an unknown outcome.
func (r *Replica) serveRound(ctx context.Context) {
	leadership, _ := r.store.WatchLeader()
	if r.rounds.term != leadership.Term {
		if err := r.store.Barrier(ctx); err != nil {
			for _, w := range r.rounds.next(r.Local()) {
				w.finish(nil, again(err))
			}
			return
		}
		r.rounds.term = leadership.Term
	}
	txn := r.Local()
	round := r.rounds.next(txn)
	var proposed sync.WaitGroup
	for _, w := range round {
		if problems := validate(txn, w.set); len(problems) > 0 {
			w.finish(&command.Result{Refusal: command.Refusal_REFUSAL_INVALID, Message: problems[0].Message, Problems: problems}, nil)
			continue
		}
		proposed.Go(func() { w.finish(r.apply(w.ctx, w.msg)) })
	}
	proposed.Wait()
	for _, w := range round {
		if w.err != nil {
			r.rounds.term = 0
		}
	}
}

func (r *rounds) enter(w *write) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, w)
}

// withdraw reports whether w waited still, and waits no longer.
func (r *rounds) withdraw(w *write) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.waiting, w)
	if i < 0 {
		return false
	}
	r.waiting = slices.Delete(r.waiting, i, i+1)
	return true
}

// next takes the sets of the next round out of those that wait, in their order.
// One that has to wait for another holds up those that would have to wait for it,
// so that none is overtaken for ever.
func (r *rounds) next(txn *state.Txn) (round []*write) {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := map[string]bool{}
	var left []*write
	for _, w := range r.waiting {
		names := concerns(txn, w.set)
		free := len(round) < maxRound && !slices.ContainsFunc(names, func(n string) bool { return taken[n] })
		for _, n := range names {
			taken[n] = true
		}
		if free {
			round = append(round, w)
		} else {
			left = append(left, w)
		}
	}
	r.waiting = left
	return round
}

// everything stands for the one resource that is about no service.
const everything = ""

// concerns gives the services that a set is about, as its resources are and as
// they are to be.
func concerns(txn *state.Txn, set *command.SetResources) (names []string) {
	add := func(kind, name string) {
		if kind == mesh.ResourceMesh {
			names = append(names, everything)
		}
		names = append(names, mesh.Concerns(txn.Resource(nil, kind, name))...)
	}
	for _, r := range set.Put {
		add(mesh.ResourceKind(r), r.GetName())
		names = append(names, mesh.Concerns(r)...)
	}
	for _, k := range set.Remove {
		add(k.Kind, k.Name)
	}
	return names
}

// validate reports what is wrong with the resources as they would be.
func validate(txn *state.Txn, set *command.SetResources) []*apiv1.Problem {
	after := resourcesAfter(txn, set)
	problems := mesh.ValidateSet(set.Put, after)
	for _, k := range set.Remove {
		problems = append(problems, mesh.ValidateDelete(mesh.ResourceKey{Kind: k.Kind, Name: k.Name}, after)...)
	}
	return problems
}

// resourcesAfter gives the resources as they would be, without those that have
// nothing to do with the set.
func resourcesAfter(txn *state.Txn, set *command.SetResources) []*apiv1.Resource {
	changed := make(map[mesh.ResourceKey]bool, len(set.Put)+len(set.Remove))
	for _, r := range set.Put {
		changed[mesh.KeyOf(r)] = true
	}
	for _, k := range set.Remove {
		changed[mesh.ResourceKey{Kind: k.Kind, Name: k.Name}] = true
	}
	related := map[string]bool{}
	for _, name := range concerns(txn, set) {
		related[name] = true
	}
	var after []*apiv1.Resource
	for _, r := range txn.Resources(nil, "") {
		isRelated := slices.ContainsFunc(mesh.Concerns(r), func(n string) bool { return related[n] })
		if isRelated && !changed[mesh.KeyOf(r)] {
			after = append(after, r)
		}
	}
	return append(after, set.Put...)
}
