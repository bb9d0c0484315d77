package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// A Replica is the replicated state as one server works with it: it reads from
// the server's own tables, as fresh as is wanted, and its writes find the
// leader.
type Replica struct {
	self  string // id of the server
	store *store.Store
	dial  func(address string) (*grpc.ClientConn, error)
	locks nameLocks // of resources, while this server leads

	mu    sync.Mutex
	peers map[string]*grpc.ClientConn // by address
	aside []*grpc.ClientConn          // replaced by those, for calls under way
	asked int                         // servers asked in search of a leader
	// settled is the term in which the state is known to show all that was
	// proposed before, 0 after an unknown outcome; unknown counts those.
	settled, unknown uint64
}

// NewReplica makes a replica on top of s, for the server with id self. dial
// opens a connection to another server, proving this one's identity and checking
// the other's.
func NewReplica(self string, s *store.Store, dial func(address string) (*grpc.ClientConn, error)) *Replica {
	return &Replica{self: self, store: s, dial: dial, locks: nameLocks{locked: map[string]bool{}}, peers: map[string]*grpc.ClientConn{}}
}

// Close ends the connections to other servers.
func (r *Replica) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setAside()
	r.closeAside()
}

// Renew has calls from now on use new connections to the other servers, for which
// new certificates are shown. Calls under way go on until the next time.
func (r *Replica) Renew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closeAside()
	r.setAside()
}

func (r *Replica) setAside() {
	for _, conn := range r.peers {
		r.aside = append(r.aside, conn)
	}
	clear(r.peers)
}

func (r *Replica) closeAside() {
	for _, conn := range r.aside {
		conn.Close()
	}
	r.aside = nil
}

// Local is the state as this server has it, which may lag behind.
func (r *Replica) Local() *state.Txn {
	txn, err := r.store.Read(context.Background(), store.Stale)
	if err != nil {
		panic(fmt.Sprintf("BUG: a read of the server's own tables failed: %v", err))
	}
	return txn
}

// Fresh is the state with every write that was acknowledged before the call.
// It waits for a leader until ctx ends.
func (r *Replica) Fresh(ctx context.Context) (txn *state.Txn, err error) {
	err = r.atLeader(ctx, func() (err error) {
		txn, err = r.store.Read(ctx, store.Linearizable)
		return again(err)
	}, func(ctx context.Context, leader apiv1.PeerClient) error {
		reply, err := leader.ReadIndex(ctx, &apiv1.ReadIndexRequest{})
		if err != nil {
			return again(err)
		}
		txn, err = r.store.ReadAt(ctx, reply.Index)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the state as of now: %w", err)
	}
	return txn, nil
}

// Propose has a command applied on all servers. It waits for a leader until ctx
// ends; when it returns a result, Local has it. The result may be a refusal.
// An *OutcomeError says that nobody knows whether it was applied.
func (r *Replica) Propose(ctx context.Context, msg proto.Message) (result *command.Result, err error) {
	err = r.atLeader(ctx, func() (err error) {
		result, err = r.lead(ctx, msg)
		return err
	}, func(ctx context.Context, leader apiv1.PeerClient) (err error) {
		result, err = forward(ctx, leader, msg)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", nameOf(msg), err)
	}
	if _, err := r.store.ReadAt(ctx, result.Index); err != nil {
		return nil, fmt.Errorf("%s was written, but this server lags behind: %w", nameOf(msg), err)
	}
	return result, nil
}

// nameOf says what a command is, as whoever asked for it called it.
func nameOf(msg proto.Message) string {
	if audited, ok := msg.(*command.Audited); ok {
		return "the change (" + audited.Record.GetAction() + ")"
	}
	return command.Name(msg)
}

// forward proposes at the leader. A call that never reached it, or that it
// turned away, may be made again.
func forward(ctx context.Context, leader apiv1.PeerClient, msg proto.Message) (*command.Result, error) {
	entry, err := command.Encode(msg)
	if err != nil {
		return nil, err
	}
	var reached peer.Peer
	reply, err := leader.Propose(ctx, &apiv1.ProposeRequest{Entry: entry}, grpc.Peer(&reached))
	if cause := context.Cause(ctx); cause != nil && status.Code(err) == codes.Canceled {
		err = status.FromContextError(cause).Err()
	}
	if err != nil {
		return nil, outcome(err, reached.Addr != nil)
	}
	result := &command.Result{}
	if err := proto.Unmarshal(reply.Result, result); err != nil {
		return nil, &OutcomeError{fmt.Errorf("decoding the leader's answer: %w", err)}
	}
	return result, nil
}

// outcome says what a failed proposal came to.
func outcome(err error, reached bool) error {
	switch status.Code(err) {
	case codes.FailedPrecondition:
		return again(err)
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return err
	}
	if !reached {
		return again(err)
	}
	return &OutcomeError{err}
}

// A remote is what to do when another server leads.
type remote func(ctx context.Context, leader apiv1.PeerClient) error

// atLeader calls here when this server leads and there when another does, until
// it gives something else than a retryError or ctx ends.
func (r *Replica) atLeader(ctx context.Context, here func() error, there remote) error {
	for {
		leader, changed := r.store.WatchLeader()
		err := r.once(ctx, leader, changed, here, there)
		var retry *retryError
		if !errors.As(err, &retry) {
			return err
		}
		select {
		case <-changed:
		case <-time.After(retryDelay):
		case <-ctx.Done():
			return &NoLeaderError{retry.error}
		}
	}
}

const (
	// retryDelay is how long after a failure the leader is tried again, unless
	// there is another sooner.
	retryDelay = 100 * time.Millisecond
	// deposedGrace is how long a leader may take to answer once it leads no more.
	// One whose host died never does, and its connection looks alive.
	deposedGrace = 500 * time.Millisecond
	// probeTimeout is how long a server may take to say that it leads.
	probeTimeout = time.Second
)

func (r *Replica) once(ctx context.Context, leader store.Leadership, changed <-chan struct{}, here func() error, there remote) error {
	switch {
	case leader.Leads:
		return here()
	case leader.Address != "":
		return r.call(ctx, leader.Address, changed, there)
	}
	address := r.next()
	if address == "" {
		return again(errNoLeader)
	}
	if err := r.call(ctx, address, changed, isLeader); err != nil {
		return again(errNoLeader)
	}
	return r.call(ctx, address, changed, there)
}

// isLeader is asked of servers that may be dead, whose connections look alive:
// a write to one of those would have an unknown outcome for nothing.
func isLeader(ctx context.Context, leader apiv1.PeerClient) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := leader.ReadIndex(ctx, &apiv1.ReadIndexRequest{})
	return err
}

var (
	errNoLeader   = errors.New("the servers have no leader: it takes a majority of them to have one")
	errLeaderLost = errors.New("the leader lost its leadership before it answered")
)

func (r *Replica) call(ctx context.Context, address string, changed <-chan struct{}, there remote) error {
	conn, err := r.peer(address)
	if err != nil {
		return again(err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-changed:
			time.AfterFunc(deposedGrace, func() { cancel(errLeaderLost) })
		case <-ctx.Done():
		}
	}()
	return there(ctx, apiv1.NewPeerClient(conn))
}

// next gives one server after the other to be asked while no leader is known: a
// leader may be there that cannot reach this server, as when it has moved. It
// is empty when there is no other server.
func (r *Replica) next() string {
	var others []string
	for _, s := range r.Local().Servers(nil) {
		if s.Id != r.self {
			others = append(others, s.Address)
		}
	}
	if len(others) == 0 {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return others[r.asked%len(others)]
}

// Progress asks the server at an address how far it has come. It fails if another
// server than that with the id answers, or none until ctx ends; with a
// *VerdictError if that server says that this one can never take part again.
func (r *Replica) Progress(ctx context.Context, id, address string) (*apiv1.ProgressReply, error) {
	conn, err := r.peer(address)
	if err != nil {
		return nil, err
	}
	var trailer metadata.MD
	reply, err := apiv1.NewPeerClient(conn).Progress(ctx, &apiv1.ProgressRequest{}, grpc.Trailer(&trailer))
	if err != nil {
		return nil, fmt.Errorf("asking the server at %s: %w", address, verdict(trailer, err))
	}
	if reply.Id != id {
		return nil, fmt.Errorf("the server at %s is %s, not %s", address, reply.Id, id)
	}
	return reply, nil
}

func (r *Replica) peer(address string) (*grpc.ClientConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if conn := r.peers[address]; conn != nil {
		return conn, nil
	}
	conn, err := r.dial(address)
	if err != nil {
		return nil, fmt.Errorf("connecting to the server at %s: %w", address, err)
	}
	r.peers[address] = conn
	return conn, nil
}

// A retryError is a failure that surely changed nothing.
type retryError struct{ error }

func (e *retryError) Unwrap() error { return e.error }

func again(err error) error {
	if err == nil {
		return nil
	}
	return &retryError{err}
}

// A NoLeaderError says that nothing was written or read for lack of a leader.
type NoLeaderError struct{ err error }

func (e *NoLeaderError) Error() string {
	return "no leader took the request, and nothing was changed: " + plain(e.err)
}

func (e *NoLeaderError) Unwrap() error { return e.err }

// GRPCStatus tells callers that trying again does no harm.
func (e *NoLeaderError) GRPCStatus() *status.Status {
	return status.New(codes.Unavailable, e.Error())
}

// An OutcomeError says that the connection to the leader, or its leadership,
// was lost while a write was under way.
type OutcomeError struct{ err error }

func (e *OutcomeError) Error() string {
	return "the outcome is unknown: the write may or may not have been applied; look before you repeat it: " + plain(e.err)
}

func (e *OutcomeError) Unwrap() error { return e.err }

// GRPCStatus is no code that callers take as leave to try again.
func (e *OutcomeError) GRPCStatus() *status.Status {
	return status.New(codes.Unknown, e.Error())
}

// plain is an error's text as people read it.
func plain(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}
