package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
)

const (
	kind = "service" // of the resources that are written
	keys = 5
	// callTimeout is longer than an election and shorter than a fault, so that
	// some calls outlive a fault and others do not.
	callTimeout = 3 * time.Second
)

// A connector connects to one server, as an operator on its host.
type connector func(context.Context) (*client.Client, error)

// A workload has clients read and write through all servers at once.
type workload struct {
	history history
	prefix  string        // of the keys, so that no other workload has written them
	think   time.Duration // pause between the calls of a client, about
	values  atomic.Int64
	running sync.WaitGroup
	stop    chan struct{}
}

// start lets clients work: perServer at each server.
func startWorkload(prefix string, servers []connector, perServer int, think time.Duration, seed uint64) *workload {
	w := &workload{prefix: prefix, think: think, stop: make(chan struct{})}
	for i, connect := range servers {
		for j := range perServer {
			c := &worker{
				workload: w, id: i*perServer + j, rand: rand.New(rand.NewPCG(seed, uint64(i*perServer+j))),
				conn: &connection{connect: connect}, seen: map[string]uint64{},
			}
			w.running.Go(c.run)
		}
	}
	return w
}

// end lets the calls under way come to their ends.
func (w *workload) end() {
	close(w.stop)
	w.running.Wait()
}

// readAll reads every key at every server, into the history: what was
// acknowledged must be there.
func (w *workload) readAll(t *testing.T, servers []connector) {
	t.Helper()
	for i, connect := range servers {
		conn := &connection{connect: connect}
		for k := range keys {
			w.history.call(lastClient+i, request{action: read, key: w.key(k)}, func(r request) reply {
				got, err := conn.insist(r)
				if err != nil {
					t.Errorf("reading %s at server %d in the end: %v", r.key, i+1, err)
				}
				return got
			})
		}
		conn.close()
	}
}

// lastClient is the first number of those who read in the end.
const lastClient = 100

func (w *workload) key(k int) string { return fmt.Sprintf("%s-%d", w.prefix, k) }

// A worker is one client. It remembers the versions that it has seen, for swaps.
type worker struct {
	*workload
	id   int
	rand *rand.Rand
	conn *connection
	seen map[string]uint64
}

func (c *worker) run() {
	defer c.conn.close()
	for pause(c.stop, time.Duration(c.rand.Int64N(int64(2*c.think)))) {
		r := c.next()
		got := c.history.call(c.id, r, func(r request) reply {
			got, _ := c.conn.do(r)
			return got
		})
		if got.outcome == done && got.version > 0 {
			c.seen[r.key] = got.version
		}
	}
}

func (c *worker) next() request {
	r := request{key: c.key(c.rand.IntN(keys))}
	version := c.seen[r.key]
	switch n := c.rand.IntN(100); {
	case n < 40:
		return r
	case n < 55 || version == 0:
		r.action, r.value = put, c.values.Add(1)
	case n < 90:
		r.action, r.value, r.version = swap, c.values.Add(1), version
	default:
		r.action = remove
	}
	return r
}

// pause reports whether it was not cut short by stop.
func pause(stop <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
		return false
	}
}

// A connection to one server is made anew when it has failed.
type connection struct {
	connect connector
	client  *client.Client
}

func (c *connection) close() {
	if c.client != nil {
		c.client.Close()
		c.client = nil
	}
}

// do makes one call. The error says more about an outcome that is unknown, or
// why nothing was done.
func (c *connection) do(r request) (reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if c.client == nil {
		var err error
		if c.client, err = c.connect(ctx); err != nil {
			c.client = nil
			return reply{outcome: nothing}, err
		}
	}
	got, err := ask(ctx, c.client.Admin(), r)
	if status.Code(err) == codes.Unavailable {
		c.close() // the server may have gone, and come back elsewhere
	}
	return got, err
}

// insist repeats a read until it is answered, for a minute.
func (c *connection) insist(r request) (got reply, err error) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); pause(nil, 100*time.Millisecond) {
		if got, err = c.do(r); err == nil {
			return got, nil
		}
	}
	return got, err
}

// ask puts a request to the API.
func ask(ctx context.Context, admin apiv1.AdminClient, r request) (reply, error) {
	switch r.action {
	case read:
		got, err := admin.GetResources(ctx, &apiv1.GetResourcesRequest{Kind: kind, Name: r.key})
		if err != nil {
			return failed(err)
		}
		return found(got.Resources)
	case put, swap:
		got, err := admin.Apply(ctx, &apiv1.ApplyRequest{Resources: []*apiv1.Resource{resource(r)}})
		switch {
		case err != nil:
			return failed(err)
		case len(got.Problems) > 0:
			return refused(got.Problems)
		}
		return reply{version: got.Version}, nil
	}
	_, err := admin.Delete(ctx, &apiv1.DeleteRequest{Kind: kind, Name: r.key, Version: r.version})
	if err != nil {
		return failed(err)
	}
	return reply{}, nil
}

// resource carries a value as a time-out.
func resource(r request) *apiv1.Resource {
	return &apiv1.Resource{Name: r.key, Version: r.version, Spec: &apiv1.Resource_Service{Service: &apiv1.Service{
		Protocol: apiv1.Protocol_PROTOCOL_HTTP, Timeout: &apiv1.Timeouts{Request: durationpb.New(time.Duration(r.value) * time.Millisecond)},
	}}}
}

func found(list []*apiv1.Resource) (reply, error) {
	switch len(list) {
	case 0:
		return reply{outcome: absent}, nil
	case 1:
		value := list[0].GetService().GetTimeout().GetRequest().AsDuration() / time.Millisecond
		return reply{value: int64(value), version: list[0].Version}, nil
	}
	return reply{outcome: unknown}, fmt.Errorf("one name gave %d resources", len(list))
}

func refused(problems []*apiv1.Problem) (reply, error) {
	if problems[0].Path == "version" {
		return reply{outcome: conflict}, nil
	}
	return reply{outcome: unknown}, errors.New(problems[0].Message)
}

// failed says what a failed call came to: what the API promises about it.
func failed(err error) (reply, error) {
	switch code := status.Code(err); {
	case code == codes.NotFound:
		return reply{outcome: absent}, nil
	case code == codes.Aborted:
		return reply{outcome: conflict}, nil
	case code == codes.ResourceExhausted:
		return reply{outcome: nothing}, err
	case code == codes.Unavailable && strings.Contains(err.Error(), "nothing was changed"):
		return reply{outcome: nothing}, err
	}
	return reply{outcome: unknown}, err
}
