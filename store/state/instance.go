package state

import (
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/command"
)

// setInstances ignores removals of instances that are gone already: the change
// was worked out from a state that may have been a little older.
func (w *writer) setInstances(c *command.SetInstances) error {
	node, err := w.needNode(c.NodeId)
	if err != nil {
		return err
	}
	if c.Epoch != 0 && c.Epoch != node.LeaseEpoch {
		return refuse(command.Refusal_REFUSAL_STALE_LEASE, "the instances of host %q were sent under its lease %d, and it has lease %d", node.Name, c.Epoch, node.LeaseEpoch)
	}
	named := map[string]bool{}
	for _, i := range c.Put {
		if err := CheckInstance(node, i); err != nil {
			return err
		}
		if named[i.Id] {
			return invalid("instance %q of host %q is there twice", i.Id, node.Name)
		}
		named[i.Id] = true
	}
	for _, id := range c.Remove {
		if named[id] {
			return invalid("instance %q of host %q is both put and removed", id, node.Name)
		}
	}
	h := w.hosting(node.Id)
	for _, i := range c.Put {
		h.put(i)
	}
	for _, id := range c.Remove {
		h.remove(id)
	}
	h.done()
	return nil
}

// MayRun says whether a host's join token has allowed it to run a service.
func MayRun(node *apiv1.Node, service string) bool { return matches(node.AllowedServices, service) }

// CheckInstance says why a host cannot have an instance, whatever others it has.
func CheckInstance(node *apiv1.Node, i *apiv1.Instance) error {
	if err := checkID("instance", i.GetId()); err != nil {
		return errorIn(err, "host %q", node.Name)
	}
	if i.NodeId != "" && i.NodeId != node.Id {
		return invalid("instance %q is of host %s and was sent by %s", i.Id, i.NodeId, node.Id)
	}
	if err := mesh.CheckName(i.Service); err != nil {
		return errorIn(err, "service of instance %q of host %q", i.Id, node.Name)
	}
	if err := checkPort(i.Port); err != nil {
		return errorIn(err, "instance %q of host %q", i.Id, node.Name)
	}
	if !MayRun(node, i.Service) {
		return refuse(command.Refusal_REFUSAL_TOKEN, "host %q may not run the service %q, only %q, as its join token said: let it join again with a token that allows the service", node.Name, i.Service, node.AllowedServices)
	}
	return nil
}
