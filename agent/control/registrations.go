package control

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// Register sets all that this host runs and returns the sequence by which the
// servers answer. It is sent at once, and again to every server that the client
// comes to. Instances must not be modified afterwards.
func (c *Client) Register(instances []*apiv1.Instance) (sequence uint64) {
	c.update(func() {
		if c.wanted == nil {
			c.wanted = &apiv1.Registrations{Sequence: 1, Instances: instances}
		} else if !slices.EqualFunc(c.wanted.Instances, instances, equal) {
			c.wanted = &apiv1.Registrations{Sequence: c.wanted.Sequence + 1, Instances: instances}
		}
		sequence = c.wanted.Sequence
	})
	return sequence
}

func equal(a, b *apiv1.Instance) bool { return proto.Equal(a, b) }

// A RefusedError says that the servers refused what this host registered.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "the servers refused the registration: " + e.Reason }

// WaitRegistered blocks until the servers answered the registrations of that
// sequence or later ones. It returns a *RefusedError when they refused, and ctx's
// cause when it ended first.
func (c *Client) WaitRegistered(ctx context.Context, sequence uint64) error {
	refusal := ""
	err := c.wait(ctx, func() bool {
		refusal = c.refusal
		return c.answered >= sequence
	})
	if err == nil && refusal != "" {
		return &RefusedError{refusal}
	}
	return err
}

// WaitAccepted blocks until the servers accepted the registrations of that
// sequence or later ones, however often they refuse them before.
func (c *Client) WaitAccepted(ctx context.Context, sequence uint64) error {
	return c.wait(ctx, func() bool { return c.answered >= sequence && c.refusal == "" })
}

// Registered reports whether the servers accepted what was registered last, and
// if not, why.
func (c *Client) Registered() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.wanted == nil || c.answered < c.wanted.Sequence:
		return errors.New("the servers did not answer the registration yet")
	case c.refusal != "":
		return &RefusedError{c.refusal}
	}
	return nil
}

// registered takes the server's answer.
func (s *session) registered(r *apiv1.RegistrationsResult) {
	c := s.client
	news := false
	c.update(func() {
		s.result = r
		if r.GetSequence() < c.answered {
			return
		}
		news = r.GetError() != c.refusal
		c.answered, c.refusal = r.GetSequence(), r.GetError()
	})
	switch {
	case news && r.GetError() != "":
		c.log.Error("the servers refused this host's services", "reason", r.GetError())
	case news:
		c.log.Info("the servers accepted this host's services")
	}
}
