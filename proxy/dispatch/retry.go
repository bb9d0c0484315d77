package dispatch

import "github.com/meshd/meshd/proxy/observe"

// A Cause is why a call is made once more.
type Cause string

const (
	// Connect: no connection came about.
	Connect Cause = "connect"
	// Refused: another agent says that no application has seen the call.
	Refused Cause = "refused"
	// Reset: the connection ended without an answer.
	Reset Cause = "reset"
	// Timeout: no answer came within the limit of one try.
	Timeout Cause = "timeout"
	// Status: the response has a status that is to be tried again.
	Status Cause = "status"
	// Stale: a connection that had been idle was being closed by the peer. It
	// shows nothing of the endpoint.
	Stale Cause = "stale"
)

// Again reports whether the call may be made once more after a failure, as far
// as retries are configured and the budget goes. If so, the next try has begun
// when it returns, or problem says why there is none.
func (c *Call) Again(cause Cause, status int) (again bool, problem *observe.Problem) {
	if !c.Retries(cause, status) {
		return false, nil
	}
	service := c.cluster.plan.Service
	if !c.cluster.budget.withdraw(c.dispatcher.now(), c.target.Retry.BudgetPerSec) {
		c.dispatcher.observer.BudgetExhausted(service)
		return false, nil
	}
	c.dispatcher.observer.Retried(service, string(cause))
	c.End()
	return true, c.next()
}

// CountStale counts that a call is made once more on a fresh connection.
func (c *Call) CountStale() {
	c.dispatcher.observer.Retried(c.Edge.Service(), string(Stale))
}

// Retries reports whether retries are configured for a failure, and one is left.
func (c *Call) Retries(cause Cause, status int) bool {
	if c.target == nil || c.Tries > c.target.Retry.Attempts {
		return false
	}
	r := &c.target.Retry
	switch cause {
	case Connect:
		return r.Connect
	case Refused:
		return r.Refused
	case Reset:
		return r.Reset
	case Timeout:
		return r.PerTry > 0
	case Status:
		for _, s := range r.Statuses {
			if status >= s.From && status <= s.To {
				return true
			}
		}
	}
	return false
}
