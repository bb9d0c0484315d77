package peers

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
)

// A Fleet is simulated agents of meshd, each with a certificate, a stream, a
// lease and registrations of its own, spread over the servers.
type Fleet struct {
	admin  *client.Client
	agents []*fleetAgent

	mu      sync.Mutex
	awaited string // what the agents are to be told
	began   time.Time
	told    []time.Duration // by as many agents as have acknowledged it
	all     chan struct{}   // closed when all have
}

// The first service is the one that is changed.
const changedService = "svc-0"

// NewFleet has the hosts of a catalogue join a cluster of meshd and connect. It
// returns when every agent knows every service.
func (c *Cluster) NewFleet(ctx context.Context, catalogue Catalogue) (*Fleet, error) {
	m, ok := c.product.(*meshd)
	if !ok {
		return nil, fmt.Errorf("a fleet is for meshd, not for %s", c.Name)
	}
	admin, err := client.Dial(ctx, m.socket(0))
	if err != nil {
		return nil, err
	}
	f := &Fleet{admin: admin}
	token, err := admin.Admin().CreateToken(ctx, &apiv1.CreateTokenRequest{Reusable: true})
	if err != nil {
		return nil, err
	}
	for i := range catalogue.Hosts {
		f.agents = append(f.agents, &fleetAgent{fleet: f, number: i, server: address(0, i%c.Size()) + ":7300", instances: fleetInstances(catalogue, i), version: "1"})
	}
	err = parallel(len(f.agents), func(i int) error { return f.agents[i].join(ctx, token.GetToken()) })
	if err == nil {
		err = parallel(len(f.agents), func(i int) error { return f.agents[i].connect(ctx) })
	}
	if err != nil {
		return nil, fmt.Errorf("joining the hosts: %w", err)
	}
	return f, f.settle(ctx)
}

func fleetInstances(catalogue Catalogue, host int) (set []*apiv1.Instance) {
	for j := range catalogue.PerHost {
		set = append(set, &apiv1.Instance{
			Id: fmt.Sprint("i", j), Service: fmt.Sprint("svc-", (host*catalogue.PerHost+j)%catalogue.Services), Port: uint32(8000 + j),
			Protocol: apiv1.Protocol_PROTOCOL_HTTP, Tags: []string{"v1"}, Meta: map[string]string{"version": "1"}, Weight: 1, Health: apiv1.Health_HEALTH_PASSING,
		})
	}
	return set
}

// settle waits until a change reaches everybody: then all that came before has.
func (f *Fleet) settle(ctx context.Context) error {
	_, err := f.ChangeInstance(ctx, "settled")
	return err
}

// ChangeInstance changes one instance and gives how long it took until each agent
// had acknowledged that, soonest first.
func (f *Fleet) ChangeInstance(ctx context.Context, value string) ([]time.Duration, error) {
	return f.measure(ctx, value, func() error { return f.agents[0].register(value) })
}

// ChangeResource does the same with the configuration of a service.
func (f *Fleet) ChangeResource(ctx context.Context, value string) ([]time.Duration, error) {
	return f.measure(ctx, value, func() error {
		w := &meshdWriter{client: f.admin}
		return w.Put(ctx, changedService, value)
	})
}

func (f *Fleet) measure(ctx context.Context, value string, change func() error) ([]time.Duration, error) {
	all := make(chan struct{})
	f.mu.Lock()
	f.awaited, f.told, f.all, f.began = value, nil, all, time.Now()
	f.mu.Unlock()
	if err := change(); err != nil {
		return nil, err
	}
	select {
	case <-all:
		return f.told, nil
	case <-ctx.Done():
		f.mu.Lock()
		defer f.mu.Unlock()
		return nil, fmt.Errorf("%d of %d agents were told of %s: %w", len(f.told), len(f.agents), value, context.Cause(ctx))
	}
}

// heard notes that an agent has acknowledged an update.
func (f *Fleet) heard(a *fleetAgent, u *apiv1.SliceUpdate) {
	for _, s := range u.GetServices() {
		if s.GetName() == changedService {
			f.note(a, s)
		}
	}
}

func (f *Fleet) note(a *fleetAgent, s *apiv1.ServiceSlice) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.last == f.awaited || !shows(s, f.awaited) {
		return
	}
	a.last = f.awaited
	if f.told = append(f.told, time.Since(f.began)); len(f.told) == len(f.agents) {
		close(f.all)
	}
}

func shows(s *apiv1.ServiceSlice, value string) bool {
	if s.GetConfig().GetSubsets()["v"].GetMatch()["meta.value"] == value {
		return true
	}
	for _, e := range s.GetEndpoints() {
		if e.GetMeta()["version"] == value {
			return true
		}
	}
	return false
}

// Close ends all streams.
func (f *Fleet) Close() {
	for _, a := range f.agents {
		a.close()
	}
	f.admin.Close()
}

// source gives every host an address of its own on loopback.
func source(i int) net.IP { return net.IPv4(127, 64+byte(i>>16), byte(i>>8), byte(i)) }
