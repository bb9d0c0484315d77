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
type RefusedError struct {
	Reason string
	// Instances are the refused ones by id, with the reason of each: the others
	// are registered. Without any, none is.
	Instances map[string]string
}

// Of is the refusal as far as it concerns one instance, nil if it does not.
func (e *RefusedError) Of(id string) error {
	reason, named := e.Instances[id]
	switch {
	case named:
		return &RefusedError{Reason: reason, Instances: map[string]string{id: reason}}
	case len(e.Instances) == 0:
		return e
	}
	return nil
}

func (e *RefusedError) Error() string { return "the servers refused the registration: " + e.Reason }

// WaitRegistered blocks until the servers answered the registrations of that
// sequence or later ones. It returns a *RefusedError when they refused, and ctx's
// cause when it ended first.
func (c *Client) WaitRegistered(ctx context.Context, sequence uint64) error {
	var refusal *RefusedError
	err := c.wait(ctx, func() bool {
		refusal = c.refusal
		return c.answered >= sequence
	})
	if err == nil && refusal != nil {
		return refusal
	}
	return err
}

// WaitAccepted blocks until the servers accepted the registrations of that
// sequence or later ones, or some of them, however often they refuse them before.
func (c *Client) WaitAccepted(ctx context.Context, sequence uint64) error {
	return c.wait(ctx, func() bool { return c.answered >= sequence && (c.refusal == nil || len(c.refusal.Instances) > 0) })
}

// Registered reports whether the servers accepted what was registered last, and
// if not, why.
func (c *Client) Registered() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.wanted == nil || c.answered < c.wanted.Sequence:
		return errors.New("the servers did not answer the registration yet")
	case c.refusal != nil:
		return c.refusal
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
		refusal := refusalOf(r)
		news = (refusal == nil) != (c.refusal == nil) || refusal != nil && refusal.Reason != c.refusal.Reason
		c.answered, c.refusal = r.GetSequence(), refusal
	})
	switch {
	case news && r.GetError() != "":
		c.log.Error("the servers refused this host's services", "reason", r.GetError())
	case news:
		c.log.Info("the servers accepted this host's services")
	}
}

func refusalOf(r *apiv1.RegistrationsResult) *RefusedError {
	if r.GetError() == "" {
		return nil
	}
	e := &RefusedError{Reason: r.GetError(), Instances: map[string]string{}}
	for _, i := range r.GetRefused() {
		e.Instances[i.GetId()] = i.GetReason()
	}
	return e
}
