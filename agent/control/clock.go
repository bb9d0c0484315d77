package control

import (
	"fmt"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// maxSkew is how far a clock may be off before people are told. Certificates are
// valid from 5 minutes before they are made, so that there is time to set it.
const maxSkew = time.Minute

// compareClocks notes how far this host's clock is ahead of a server's, give or
// take the time that the message took.
func (c *Client) compareClocks(server string, h *apiv1.Heartbeat) {
	if h.GetTimeUnixNano() == 0 {
		return // from a server that does not say
	}
	ahead := time.Since(time.Unix(0, h.GetTimeUnixNano()))
	c.mu.Lock()
	was := c.ahead
	c.ahead = ahead
	c.mu.Unlock()
	if skewed(ahead) && !skewed(was) {
		c.log.Warn("this host's clock is not that of the servers; set it before certificates seem to be invalid", "server", server, "ahead", ahead.Round(time.Second))
	}
}

func skewed(ahead time.Duration) bool { return ahead.Abs() > maxSkew }

// Clock says how this host's clock is off when it is, compared with the server
// that was heard last.
func (c *Client) Clock() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !skewed(c.ahead) {
		return nil
	}
	way := "ahead of"
	if c.ahead < 0 {
		way = "behind"
	}
	return fmt.Errorf("this host's clock is %v %s the servers': certificates seem to be invalid when it is more than 5 min off; set it, for instance with systemd-timesyncd", c.ahead.Abs().Round(time.Second), way)
}
