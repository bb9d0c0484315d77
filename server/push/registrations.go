package push

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
)

// maxInstances bounds what one host may register.
const maxInstances = 1000

// checkInstances reports what is wrong with a set of registrations, naming the
// instance and the way out. Whether the host may run such services is decided
// where it is written.
func checkInstances(node *apiv1.Node, set []*apiv1.Instance) error {
	if len(set) > maxInstances {
		return fmt.Errorf("%d instances are registered, and a host may have %d", len(set), maxInstances)
	}
	ids := make(map[string]bool, len(set))
	ports := make(map[string]string, len(set))
	for _, i := range set {
		if err := checkInstance(node, i); err != nil {
			return fmt.Errorf("instance %q: %w", i.GetId(), err)
		}
		if ids[i.Id] {
			return fmt.Errorf("instance %q: the id is given twice: give one of the two another id", i.Id)
		}
		ids[i.Id] = true
		// A caller names an instance of a host by its service and port.
		port := fmt.Sprintf("%s:%d", i.Service, i.Port)
		if other, taken := ports[port]; taken {
			return fmt.Errorf("instance %q: service %s is on port %d already as instance %q: remove one of the two", i.Id, i.Service, i.Port, other)
		}
		ports[port] = i.Id
	}
	return nil
}

func checkInstance(node *apiv1.Node, i *apiv1.Instance) error {
	declaration := &apiv1.Declaration{
		Name: i.GetService(), Id: i.GetId(), Port: i.GetPort(), Protocol: i.GetProtocol(), Tags: i.GetTags(), Meta: i.GetMeta(),
	}
	if i.GetWeight() != 0 {
		declaration.Weight = proto.Uint32(i.Weight)
	}
	if problems := mesh.CheckDeclaration(declaration); len(problems) > 0 {
		return fmt.Errorf("%s: %s: %s", problems[0].Path, problems[0].Message, problems[0].Fix)
	}
	switch {
	case i.Id == "":
		return errors.New("it has no id")
	case i.NodeId != "" && i.NodeId != node.Id:
		return fmt.Errorf("it is of another host (%s)", i.NodeId)
	case i.Health != apiv1.Health_HEALTH_PASSING && i.Health != apiv1.Health_HEALTH_CRITICAL:
		return errors.New("its health is neither passing nor critical")
	}
	return nil
}

// difference gives what turns the instances that a host has into those it
// wants to have.
func difference(have, want []*apiv1.Instance) (put []*apiv1.Instance, remove []string) {
	old := make(map[string]*apiv1.Instance, len(have))
	for _, i := range have {
		old[i.Id] = i
	}
	for _, i := range want {
		if before, ok := old[i.Id]; !ok || !sameInstance(before, i) {
			put = append(put, i)
		}
		delete(old, i.Id)
	}
	for _, i := range have {
		if _, gone := old[i.Id]; gone {
			remove = append(remove, i.Id)
		}
	}
	return put, remove
}

func sameInstance(stored, wanted *apiv1.Instance) bool {
	w := proto.CloneOf(wanted)
	w.CreateIndex, w.ModifyIndex = stored.CreateIndex, stored.ModifyIndex
	return proto.Equal(stored, w)
}

// ownInstances gives the set as it is stored: bearing the host's id, with
// nothing that only servers set.
func ownInstances(nodeID string, set []*apiv1.Instance) []*apiv1.Instance {
	own := make([]*apiv1.Instance, len(set))
	for n, i := range set {
		own[n] = proto.CloneOf(i)
		own[n].NodeId, own[n].CreateIndex, own[n].ModifyIndex = nodeID, 0, 0
		own[n].Weight = mesh.EffectiveWeight(i.Weight)
	}
	return own
}
