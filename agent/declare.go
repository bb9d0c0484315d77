package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meshd/meshd/agent/control"
	"github.com/meshd/meshd/agent/local"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

// confirmTime bounds the wait for the servers when a service is declared.
const confirmTime = 10 * time.Second

// AddService declares a service of this host and waits until the mesh knows it.
// One that the servers refuse is taken back. When they cannot be asked in time
// it stays, with a warning, and is registered later.
func (a *Agent) AddService(ctx context.Context, d *apiv1.Declaration) (*apiv1.AddServiceReply, error) {
	a.declaring.Lock()
	defer a.declaring.Unlock()
	d, warning := a.findProtocol(ctx, d)
	d = mesh.CompleteDeclaration(d)
	undo, err := a.local.Add(d)
	if err != nil {
		return nil, err
	}
	reply := &apiv1.AddServiceReply{Protocol: d.GetProtocol()}
	if warning != "" {
		reply.Warnings = append(reply.Warnings, warning)
	}
	switch warning, err := a.confirm(ctx, d, a.rebuild(true).sequence); {
	case err != nil:
		err = errors.Join(err, undo())
		a.rebuild(true)
		return nil, err
	case warning != "":
		reply.Warnings = append(reply.Warnings, warning)
	default:
		reply.Address = a.addressOf(d.GetName())
	}
	a.describe(d, reply)
	return reply, nil
}

// confirm waits for the servers to know the registrations, and for this agent to
// know the service from them and to have its certificate: from then on the host
// can speak and answer as the service. What is late is a warning, what the
// servers refuse an error.
func (a *Agent) confirm(ctx context.Context, d *apiv1.Declaration, sequence uint64) (warning string, err error) {
	ctx, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	err = a.control.WaitRegistered(ctx, sequence)
	if refused := new(control.RefusedError); errors.As(err, &refused) {
		err = refused.Of(d.GetId()) // another's is no reason to take this one back
		if err != nil {
			return "", err
		}
	}
	if err != nil {
		return "the servers did not answer yet; the service is registered as soon as one does", nil
	}
	service := d.GetName()
	err = a.waitBuilt(ctx, func(b built) bool { return b.slice.Services[service] != nil && a.speaksAs(service) })
	if err != nil {
		return "the service is registered, but not at work yet; meshd status shows why when it does not follow soon", nil
	}
	return "", nil
}

// addressOf is where applications of this host reach a service.
func (a *Agent) addressOf(service string) string {
	addr, ok := mesh.VirtualAddress(a.cfg.Loopback, a.built().slice.Address(service))
	if !ok {
		return ""
	}
	return addr.String()
}

// describe says who speaks as the service, and what will not work as expected.
func (a *Agent) describe(d *apiv1.Declaration, reply *apiv1.AddServiceReply) {
	for _, s := range a.local.State().Services {
		if s.Declaration.GetId() == d.GetId() {
			reply.Unit = s.Unit
		}
	}
	if a.callers == nil {
		return
	}
	l, listening, err := a.callers.Listener(uint16(d.GetPort()))
	switch {
	case err != nil:
		reply.Warnings = append(reply.Warnings, fmt.Sprintf("it cannot be told who listens on port %d: %v", d.GetPort(), err))
	case !listening:
		reply.Warnings = append(reply.Warnings, fmt.Sprintf("nothing listens on 127.0.0.1:%d yet; calls fail until the application does", d.GetPort()))
	case l.Exposed():
		reply.Warnings = append(reply.Warnings, fmt.Sprintf("the application listens on every address of this host, so that others can reach port %d past the mesh; have it listen on 127.0.0.1:%d", d.GetPort(), d.GetPort()))
	}
	if listening && reply.Unit == "" && d.GetUser() == "" {
		reply.Warnings = append(reply.Warnings, "what listens there is no systemd service, so that calls that the application makes count as this host's; name its unit (--unit) or user (--user)")
	}
}

// RemoveService takes back what AddService declared.
func (a *Agent) RemoveService(ctx context.Context, id string) error {
	a.declaring.Lock()
	defer a.declaring.Unlock()
	if err := a.local.Remove(id); err != nil {
		return err
	}
	sequence := a.rebuild(true).sequence
	ctx, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	// That the servers do not answer does not make it less removed here.
	if err := a.control.WaitRegistered(ctx, sequence); err != nil {
		a.log.Warn("the servers do not know yet that a service was removed", "service", id, "error", err)
	}
	return nil
}

// isUnknown tells a service that is not there from one that must stay.
func isUnknown(err error) bool { return errors.Is(err, local.ErrNotDeclared) }
