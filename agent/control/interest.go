package control

import (
	"fmt"
	"slices"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// SetInterest says which services the host wants to know all about, beside those
// that it runs; again says to tell the servers even though they are the same.
// They are told to every server that the client comes to.
func (c *Client) SetInterest(services []string, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !again && slices.Equal(c.interest.GetServices(), services) {
		return
	}
	c.interest = &apiv1.Interest{Services: services}
	c.wake()
}

// A movedError says that the server asked the host to go to another one.
type movedError struct{ address string }

func (e *movedError) Error() string {
	return "the server has more than its share of hosts and asked this one to go to " + e.address
}

// move goes to another server if it is one that the host knows: the word of one
// server alone is no reason to look elsewhere.
func (c *Client) move(m *apiv1.Move) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.servers, m.GetServer()) {
		c.log.Debug("the server asked this host to go to one that it does not know", "server", m.GetServer())
		return nil
	}
	return fmt.Errorf("moving: %w", &movedError{m.GetServer()})
}
