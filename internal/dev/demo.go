package dev

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
)

// DemoAgents is how many hosts the demo needs.
const DemoAgents = 4

// slowness is what the second instance of orders adds to each answer.
const slowness = 100 * time.Millisecond

// A Shop is the services of the demo: web calls orders, which runs on two
// hosts, and orders calls the ledger.
type Shop struct {
	mesh   *Mesh
	client *http.Client // as web calls
	close  []func()
	orders string // where web's host reaches orders
	slow   app    // the second instance of orders
	Web    string // where web listens
}

// OpenShop starts the services and declares each on its host.
func OpenShop(ctx context.Context, m *Mesh) (*Shop, error) {
	s := &Shop{mesh: m, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Shop) open(ctx context.Context) error {
	ledger, err := startLedger()
	if err != nil {
		return err
	}
	s.close = append(s.close, ledger.close)
	hosts := s.mesh.Hosts
	if err := s.declare(ctx, hosts[3], "ledger", apiv1.Protocol_PROTOCOL_TCP, ledger, &apiv1.CheckSpec{Kind: &apiv1.CheckSpec_Tcp{Tcp: ":"}}); err != nil {
		return err
	}
	for i, delay := range []time.Duration{0, slowness} {
		h := hosts[1+i]
		address, err := s.reach(ctx, h, "ledger", ledger.port())
		if err != nil {
			return err
		}
		orders, err := startOrders(h.Name, delay, address)
		if err != nil {
			return err
		}
		s.close = append(s.close, orders.close)
		s.slow = orders
		if err := s.declare(ctx, h, "orders", apiv1.Protocol_PROTOCOL_HTTP, orders, healthz()); err != nil {
			return err
		}
		if i == 0 {
			if s.orders, err = s.reach(ctx, hosts[0], "orders", orders.port()); err != nil {
				return err
			}
		}
	}
	web, err := startWeb(s.client, s.orders)
	if err != nil {
		return err
	}
	s.close = append(s.close, web.close)
	s.Web = web.listener.Addr().String()
	return s.declare(ctx, hosts[0], "web", apiv1.Protocol_PROTOCOL_HTTP, web, healthz())
}

func healthz() *apiv1.CheckSpec {
	return &apiv1.CheckSpec{Kind: &apiv1.CheckSpec_Http{Http: "/healthz"}, Interval: durationpb.New(time.Second)}
}

func (s *Shop) declare(ctx context.Context, h *Host, name string, p apiv1.Protocol, a app, check *apiv1.CheckSpec) error {
	_, err := h.Declare(ctx, &apiv1.Declaration{Name: name, Port: a.port(), Protocol: p, Checks: []*apiv1.CheckSpec{check}})
	if err != nil {
		return fmt.Errorf("declaring %s on %s: %w", name, h.Name, err)
	}
	return nil
}

// reach gives the address at which applications on a host call a service.
func (s *Shop) reach(ctx context.Context, h *Host, service string, port uint32) (string, error) {
	admin, err := client.Dial(ctx, s.mesh.Socket())
	if err != nil {
		return "", err
	}
	defer admin.Close()
	list, err := admin.Admin().ListServices(ctx, &apiv1.ListServicesRequest{Name: service})
	if err != nil {
		return "", err
	}
	if len(list.GetServices()) != 1 {
		return "", fmt.Errorf("the mesh does not know the service %s", service)
	}
	return h.Address(list.GetServices()[0], port)
}

// Close stops the services.
func (s *Shop) Close() {
	s.client.CloseIdleConnections()
	for i := len(s.close) - 1; i >= 0; i-- {
		s.close[i]()
	}
}
