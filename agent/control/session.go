package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
)

const (
	// heartbeat is how often the host shows that it is alive.
	heartbeat = time.Second
	// silence is how long a server may say nothing before it is given up; it
	// answers every heartbeat. It is the server's own limit for a host, too.
	silence = 3 * time.Second
	// repeatMin and repeatMax bound the wait before refused registrations are
	// sent again: the reason may pass by itself, such as a lack of a leader.
	repeatMin = time.Second
	repeatMax = 5 * time.Second
)

var errSilent = fmt.Errorf("the server said nothing for %v", silence)

type stream = grpc.BidiStreamingClient[apiv1.AgentMessage, apiv1.ServerMessage]

// A session is one stream to one server.
type session struct {
	client *Client
	conn   *grpc.ClientConn
	stream stream

	// Guarded by the client's lock.
	server string                     // name, from its welcome
	result *apiv1.RegistrationsResult // not looked at yet

	partial *apiv1.SliceUpdate // as far as it has come; of the receiving side

	// Of the sending side.
	sentAck *apiv1.Ack

	sentInterest *apiv1.Interest
	sentRegs     uint64
	sentBye      bool
	repeat       time.Duration    // wait before refused registrations are repeated
	due          <-chan time.Time // of that repetition
}

// hold runs the session until it breaks or ctx ends.
func (s *session) hold(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watchdog.Stop()
	var err error
	if s.stream, err = apiv1.NewControlClient(s.conn).Connect(ctx); err != nil {
		return cause(ctx, err)
	}
	if err := s.sendHello(); err != nil {
		return cause(ctx, err)
	}
	received := make(chan struct{})
	go func() {
		defer close(received)
		cancel(s.receive(watchdog))
	}()
	err = s.sendAll(ctx)
	cancel(err)
	<-received
	return cause(ctx, err)
}

// cause prefers the reason why the session was ended to what that did to a call.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

func (s *session) sendHello() error {
	hello := proto.CloneOf(s.client.cfg.Hello)
	s.client.mu.Lock()
	if !s.client.resync {
		introduce(hello, s.client.slice)
	}
	hello.PartialSlices, hello.Interest = true, s.client.interest
	s.sentInterest = s.client.interest
	s.client.mu.Unlock()
	return s.stream.Send(&apiv1.AgentMessage{Message: &apiv1.AgentMessage_Hello{Hello: hello}})
}

// receive takes what the server sends until the stream ends, and says why it did.
func (s *session) receive(watchdog *time.Timer) error {
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return fmt.Errorf("the server ended the stream: %w", err)
		}
		watchdog.Reset(silence)
		if err := s.handle(m); err != nil {
			return err
		}
	}
}

func (s *session) handle(m *apiv1.ServerMessage) error {
	switch m := m.GetMessage().(type) {
	case *apiv1.ServerMessage_Welcome:
		return s.welcome(m.Welcome)
	case *apiv1.ServerMessage_Slice:
		return s.take(m.Slice)
	case *apiv1.ServerMessage_Move:
		return s.client.move(m.Move)
	case *apiv1.ServerMessage_Heartbeat:
		s.client.compareClocks(s.server, m.Heartbeat)
	case *apiv1.ServerMessage_Registrations:
		s.registered(m.Registrations)
	}
	return nil // heartbeats, and what newer servers may say
}

func (s *session) welcome(w *apiv1.Welcome) error {
	c := s.client
	if w.GetServer() == "" {
		return errors.New("the server did not say its name")
	}
	known := slices.Sorted(slices.Values(w.GetServers()))
	news := false
	c.update(func() {
		s.server = w.GetServer()
		c.session, c.lastError = s, nil
		if news = len(known) > 0 && !slices.Equal(known, slices.Sorted(slices.Values(c.servers))); news {
			c.servers = known
		}
	})
	c.log.Info("connected to the mesh", "server", w.GetServer())
	if news && c.cfg.SaveServers != nil {
		c.cfg.SaveServers(known)
	}
	return nil
}

// sendAll sends whatever there is to be told until the session ends.
func (s *session) sendAll(ctx context.Context) error {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		s.client.mu.Lock()
		messages, changed := s.pending(), s.client.changed
		s.client.mu.Unlock()
		for _, m := range messages {
			if err := s.stream.Send(m); err != nil {
				return err
			}
		}
		if s.sentBye {
			// What the server says after that is read until it hangs up.
			return s.endAfterGoodbye(ctx)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-s.due:
			s.due, s.sentRegs = nil, 0
		case <-beat.C:
			m := &apiv1.AgentMessage{Message: &apiv1.AgentMessage_Heartbeat{Heartbeat: &apiv1.Heartbeat{}}}
			if err := s.stream.Send(m); err != nil {
				return err
			}
		}
	}
}

func (s *session) endAfterGoodbye(ctx context.Context) error {
	if err := s.stream.CloseSend(); err != nil {
		return err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// pending gives what the server was not told yet, once it has said welcome. The
// client's state is locked.
func (s *session) pending() []*apiv1.AgentMessage {
	c := s.client
	if s.server == "" {
		return nil
	}
	if c.leaving {
		s.sentBye = true
		return []*apiv1.AgentMessage{{Message: &apiv1.AgentMessage_Goodbye{Goodbye: &apiv1.Goodbye{}}}}
	}
	var messages []*apiv1.AgentMessage
	if c.ack != s.sentAck {
		s.sentAck = c.ack
		messages = append(messages, &apiv1.AgentMessage{Message: &apiv1.AgentMessage_Ack{Ack: c.ack}})
	}
	if c.interest != s.sentInterest {
		s.sentInterest = c.interest
		messages = append(messages, &apiv1.AgentMessage{Message: &apiv1.AgentMessage_Interest{Interest: c.interest}})
	}
	s.planRepeat()
	if c.wanted != nil && c.wanted.Sequence != s.sentRegs {
		s.sentRegs, s.due = c.wanted.Sequence, nil
		messages = append(messages, &apiv1.AgentMessage{Message: &apiv1.AgentMessage_Registrations{Registrations: c.wanted}})
	}
	return messages
}

// planRepeat has refused registrations sent again after a while.
func (s *session) planRepeat() {
	r := s.result
	s.result = nil
	switch {
	case r == nil || r.GetSequence() != s.sentRegs:
	case r.GetError() == "":
		s.repeat = 0
	default:
		s.repeat = min(repeatMax, max(repeatMin, 2*s.repeat))
		s.due = time.After(s.repeat)
	}
}
