package rpc

import (
	"cmp"
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

// setResources writes the set that msg carries. Sets that have no service in
// common cannot decide each other's validity: they are validated and proposed at
// the same time, and share Raft's writes to disk. The others wait for each other.
func (r *Replica) setResources(ctx context.Context, set *command.SetResources, msg proto.Message) (*command.Result, error) {
	unlock, err := r.lockResources(ctx, set)
	if err != nil {
		return nil, again(fmt.Errorf("waiting for other changes of resources: %w", err))
	}
	defer unlock()
	if err := r.settle(ctx); err != nil {
		return nil, again(err)
	}
	if problems := validate(r.Local(), set); len(problems) > 0 {
		return &command.Result{Refusal: command.Refusal_REFUSAL_INVALID, Message: summary(set, problems), Problems: problems}, nil
	}
	result, err := r.apply(ctx, msg)
	if err != nil {
		r.unsettle()
	}
	return result, err
}

// summary names the first resource with a problem, and it.
func summary(set *command.SetResources, problems []*apiv1.Problem) string {
	first := problems[0]
	if i := int(first.Resource); i < len(set.Put) {
		return fmt.Sprintf("%s: %s", mesh.KeyOf(set.Put[i]), first.Message)
	}
	return first.Message
}

// settle makes sure that the state shows all that was proposed before, even if
// whoever proposed it was never told of it: that takes a barrier in a new term
// and after an unknown outcome.
func (r *Replica) settle(ctx context.Context) error {
	leadership, _ := r.store.WatchLeader()
	r.mu.Lock()
	settled, unknown := r.settled, r.unknown
	r.mu.Unlock()
	if settled == leadership.Term {
		return nil
	}
	if err := r.store.Barrier(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unknown == unknown { // no further outcome became unknown meanwhile
		r.settled = leadership.Term
	}
	return nil
}

func (r *Replica) unsettle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settled = 0
	r.unknown++
}

// lockResources waits until no other set that is being written is about the
// services or resources that this one is about.
func (r *Replica) lockResources(ctx context.Context, set *command.SetResources) (unlock func(), err error) {
	names := concerns(r.Local(), set)
	for {
		unlock, err := r.locks.lock(ctx, names)
		if err != nil {
			return nil, err
		}
		// While it waited, a resource may have been moved to another service.
		now := concerns(r.Local(), set)
		if !slices.ContainsFunc(now, func(name string) bool { return !slices.Contains(names, name) }) {
			return unlock, nil
		}
		unlock()
		names = now
	}
}

// concerns names what a set is about: its resources, and the services that they
// are about as they are and as they are to be.
func concerns(txn *state.Txn, set *command.SetResources) (names []string) {
	add := func(key mesh.ResourceKey) {
		names = append(names, key.String())
		names = append(names, mesh.Concerns(txn.Resource(nil, key.Kind, key.Name))...)
	}
	for _, r := range set.Put {
		add(mesh.KeyOf(r))
		names = append(names, mesh.Concerns(r)...)
	}
	for _, k := range set.Remove {
		add(mesh.ResourceKey{Kind: k.Kind, Name: k.Name})
	}
	return names
}

// nameLocks lock sets of names, each set all at once and in the order of asking:
// who has to wait is not overtaken by who would have to wait for it.
type nameLocks struct {
	mu      sync.Mutex
	locked  map[string]bool
	waiting []*lockRequest
}

type lockRequest struct {
	names   []string
	granted chan struct{}
}

func (l *nameLocks) lock(ctx context.Context, names []string) (unlock func(), err error) {
	request := &lockRequest{names, make(chan struct{})}
	l.mu.Lock()
	l.waiting = append(l.waiting, request)
	l.grant()
	l.mu.Unlock()
	select {
	case <-request.granted:
		return func() { l.release(request) }, nil
	case <-ctx.Done():
		l.release(request)
		return nil, ctx.Err()
	}
}

// release takes back a request, granted or not.
func (l *nameLocks) release(request *lockRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, request); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	} else {
		for _, name := range request.names {
			delete(l.locked, name)
		}
	}
	l.grant()
}

// grant grants every request that has to wait for no other, with mu held.
func (l *nameLocks) grant() {
	asked := map[string]bool{} // by those who wait on
	l.waiting = slices.DeleteFunc(l.waiting, func(request *lockRequest) bool {
		taken := slices.ContainsFunc(request.names, func(name string) bool { return l.locked[name] || asked[name] })
		to := l.locked
		if taken {
			to = asked
		}
		for _, name := range request.names {
			to[name] = true
		}
		if !taken {
			close(request.granted)
		}
		return !taken
	})
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

// resourcesAfter gives the resources as they would be, of those that have a
// service in common with the set.
func resourcesAfter(txn *state.Txn, set *command.SetResources) []*apiv1.Resource {
	seen := make(map[mesh.ResourceKey]bool, len(set.Put)+len(set.Remove))
	for _, k := range set.Remove {
		seen[mesh.ResourceKey{Kind: k.Kind, Name: k.Name}] = true
	}
	for _, r := range set.Put {
		seen[mesh.KeyOf(r)] = true
	}
	var after []*apiv1.Resource
	add := func(list ...*apiv1.Resource) {
		for _, r := range list {
			if key := mesh.KeyOf(r); !seen[key] {
				seen[key] = true
				after = append(after, r)
			}
		}
	}
	for _, name := range concerns(txn, set) {
		if s := txn.Resource(nil, mesh.ResourceService, name); s != nil {
			add(s)
		}
		add(txn.Routes(nil, name)...)
		add(txn.RoutesTo(nil, name)...)
		add(txn.Policies(nil, name)...)
	}
	slices.SortFunc(after, func(a, b *apiv1.Resource) int { // problems come in a plain order
		return cmp.Or(cmp.Compare(mesh.ResourceKind(a), mesh.ResourceKind(b)), cmp.Compare(a.Name, b.Name))
	})
	return append(after, set.Put...)
}
