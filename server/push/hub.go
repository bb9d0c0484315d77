// Package push holds the streams of agents: leases and registrations come up,
// slices of the mesh go down.
package push

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

const (
	// lease is how long a host counts as alive without a word from its agent.
	lease = 3 * time.Second
	// proposeTimeout bounds one write, the wait for a leader included.
	proposeTimeout = 10 * time.Second
	retryDelay     = 500 * time.Millisecond
)

// A Replica is the replicated state as seen from one server.
type Replica interface {
	// Local is the state as this server has it, which may lag behind.
	Local() *state.Txn
	// Propose has a command applied on all servers. When it returns a result,
	// Local has it.
	Propose(ctx context.Context, msg proto.Message) (*command.Result, error)
}

// Config of a Hub.
type Config struct {
	ServerID   string
	ServerName string
	Replica    Replica
	// Caller is the host that a stream comes from, by its certificate.
	Caller func(context.Context) (*apiv1.Node, error)
	Logger *slog.Logger
}

// A Hub holds all the streams of one server.
type Hub struct {
	cfg Config
	log *slog.Logger

	ctx     context.Context // of everything that the hub has begun
	cancel  context.CancelCauseFunc
	running sync.WaitGroup

	mu       sync.Mutex
	sessions map[string]*session // by node id

	publisher *publisher

	stray      map[string]uint64    // epochs by node id, of the last Sweep
	aliveSince map[string]time.Time // servers by id, of the last Balance
}

// New makes a hub without streams. Stop must be called.
func New(cfg Config) *Hub {
	h := &Hub{cfg: cfg, log: cfg.Logger, sessions: map[string]*session{}}
	h.ctx, h.cancel = context.WithCancelCause(context.Background())
	h.publisher = newPublisher(cfg.Replica.Local, h.count)
	h.running.Go(func() { h.publisher.run(h.ctx) })
	return h
}

var errStopping = status.Error(codes.Unavailable, "this server is stopping: connect to another")

// Stop ends all streams and waits for them. Leases are not ended: the agents go
// to other servers, and the leader sees to those that do not.
func (h *Hub) Stop() {
	h.mu.Lock()
	h.cancel(errStopping)
	h.mu.Unlock()
	h.running.Wait()
}

// begin counts something that Stop waits for, until done is called. ok is false
// when the hub is stopping.
func (h *Hub) begin() (done func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return nil, false
	}
	h.running.Add(1)
	return h.running.Done, true
}

// Connect serves one agent's stream until it ends.
func (h *Hub) Connect(stream Stream) error {
	done, ok := h.begin()
	if !ok {
		return errStopping
	}
	defer done()
	node, err := h.cfg.Caller(stream.Context())
	if err != nil {
		return err
	}
	return newSession(h, stream, node).run()
}

var errReplaced = status.Error(codes.Aborted, "the host opened a newer stream to this server")

// enter makes s the stream of its node and ends the one before.
func (h *Hub) enter(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if before := h.sessions[s.node.Id]; before != nil {
		before.end(errReplaced)
	}
	h.sessions[s.node.Id] = s
}

func (h *Hub) leave(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.node.Id] == s {
		delete(h.sessions, s.node.Id)
	}
}

// Agents tells what the agents with a stream here run, by host name.
func (h *Hub) Agents() []*apiv1.AgentStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	agents := make([]*apiv1.AgentStatus, 0, len(h.sessions))
	for _, s := range h.sessions {
		agents = append(agents, s.acks.status(s.node.Name))
	}
	slices.SortFunc(agents, func(a, b *apiv1.AgentStatus) int { return cmp.Compare(a.Node, b.Node) })
	return agents
}

// count is how many agents have a stream here.
func (h *Hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sessions)
}

func (h *Hub) holds(nodeID string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[nodeID] != nil
}
