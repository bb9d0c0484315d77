package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// maxVersion bounds the name of an agent's version.
const maxVersion = 64

// A Stream is the server's end of Control.Connect.
type Stream = grpc.BidiStreamingServer[apiv1.AgentMessage, apiv1.ServerMessage]

var (
	errGoodbye = errors.New("the host said goodbye")
	errSilent  = status.Errorf(codes.DeadlineExceeded, "the host said nothing for %v", lease)
)

// A session is one stream of one agent. Its handler holds the lease; beside it
// run a receiver, a sender and what makes the slices.
type session struct {
	hub    *Hub
	log    *slog.Logger
	stream Stream
	node   *apiv1.Node // as it was when the stream began

	ctx context.Context
	end context.CancelCauseFunc

	hello  chan *apiv1.Hello
	outbox *outbox
	acks   *acks

	interest *interest
	inbox    inbox
	pulse    pulse

	tenure                       // of the handler alone
	refusal string               // the last answer's, too
	latest  *apiv1.Registrations // that are in force, of the handler as well
}

func newSession(h *Hub, stream Stream, node *apiv1.Node) *session {
	s := &session{
		hub: h, log: h.log.With("node", node.Name), stream: stream, node: node,
		hello: make(chan *apiv1.Hello, 1), outbox: newOutbox(), acks: newAcks(), interest: newInterest(),
	}
	s.ctx, s.end = context.WithCancelCause(stream.Context())
	return s
}

// run serves the stream and says why it ended.
func (s *session) run() error {
	defer s.end(nil)
	defer context.AfterFunc(s.hub.ctx, func() { s.end(context.Cause(s.hub.ctx)) })()
	s.pulse.start(func() { s.end(errSilent) })
	defer s.pulse.stop()
	s.begin(s.receive)
	hello, err := s.introduced()
	if err != nil {
		return err
	}
	s.hub.enter(s)
	defer s.hub.leave(s)
	s.outbox.fill(func(o *outbox) { o.welcome = s.welcome() })
	s.begin(func() error { return s.outbox.send(s.ctx, s.stream.SendMsg) })
	s.begin(func() error { return s.feed(hello) })
	s.log.Info("agent connected", "version", hello.GetVersion(), "slice", hello.GetSliceVersion())
	s.end(s.hold(hello))
	return s.conclude(context.Cause(s.ctx))
}

// begin runs a part of the session, whose end is the end of all. The receiver
// and the sender may be blocked until the handler has returned, so that it is
// the hub that waits for them.
func (s *session) begin(part func() error) {
	s.hub.running.Go(func() { s.end(part()) })
}

// introduced waits for the agent's Hello and checks it.
func (s *session) introduced() (*apiv1.Hello, error) {
	select {
	case hello := <-s.hello:
		return hello, s.check(hello)
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	}
}

func (s *session) check(hello *apiv1.Hello) error {
	if err := checkInterest(hello.GetInterest()); err != nil {
		return err
	}
	s.interest.take(hello.GetInterest())
	if len(hello.GetVersion()) > maxVersion {
		return status.Errorf(codes.InvalidArgument, "the agent's version is longer than %d characters", maxVersion)
	}
	cluster := s.hub.cfg.Replica.Local().Cluster(nil)
	if hello.GetClusterId() != cluster.GetId() {
		return status.Errorf(codes.FailedPrecondition, "this host is of mesh %s, and server %s is of mesh %s (%s): let the host leave its mesh and join this one, or correct its servers",
			hello.GetClusterId(), s.hub.cfg.ServerName, cluster.GetId(), cluster.GetName())
	}
	return nil
}

func (s *session) welcome() *apiv1.Welcome {
	w := &apiv1.Welcome{Server: s.hub.cfg.ServerName}
	for _, server := range s.hub.cfg.Replica.Local().Servers(nil) {
		w.Servers = append(w.Servers, server.Address)
	}
	return w
}

// receive takes the agent's messages until the stream breaks. None of them
// makes it wait, so that a heartbeat is always heard.
func (s *session) receive() error {
	greeted := false
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return fmt.Errorf("receiving from the agent: %w", err)
		}
		s.pulse.beat()
		if hello := m.GetHello(); (hello != nil) == greeted {
			return status.Error(codes.InvalidArgument, "a stream begins with one hello")
		} else if hello != nil {
			greeted = true
			s.hello <- hello
			continue
		}
		if err := s.handle(m); err != nil {
			return err
		}
	}
}

func (s *session) handle(m *apiv1.AgentMessage) error {
	switch m := m.GetMessage().(type) {
	case *apiv1.AgentMessage_Heartbeat:
		s.outbox.fill(func(o *outbox) { o.beat = true })
	case *apiv1.AgentMessage_Registrations:
		s.inbox.put(m.Registrations)
	case *apiv1.AgentMessage_Ack:
		s.acks.take(m.Ack)
	case *apiv1.AgentMessage_Interest:
		if err := checkInterest(m.Interest); err != nil {
			return err
		}
		s.interest.take(m.Interest)
	case *apiv1.AgentMessage_Goodbye:
		return errGoodbye
	}
	return nil // and what newer agents may say
}
