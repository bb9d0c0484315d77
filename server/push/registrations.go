package push

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/state"
)

// maxInstances bounds what one host may register.
const maxInstances = 1000

// A refusal says why one instance is not written.
type refusal = apiv1.RefusedInstance

// choose parts a set of registrations into what can be written and what is
// refused, with the reason and the way out. Of two that exclude each other the
// one that the host has already stays, else the first.
func choose(node *apiv1.Node, have, set []*apiv1.Instance) (valid []*apiv1.Instance, refused []*refusal) {
	ids := make(map[string]bool, len(set))
	ports := make(map[string]string, len(set))
	for _, i := range presentFirst(have, set) {
		if err := checkInstance(node, i); err != nil {
			refused = append(refused, &refusal{Id: i.GetId(), Reason: err.Error()})
			continue
		}
		switch other, taken := ports[place(i)]; {
		case len(valid) == maxInstances:
			refused = append(refused, &refusal{Id: i.Id, Reason: fmt.Sprintf("%d instances are registered, and a host may have %d", len(set), maxInstances)})
		case ids[i.Id]:
			refused = append(refused, &refusal{Id: i.Id, Reason: "the id is given twice: give one of the two another id"})
		case taken:
			refused = append(refused, &refusal{Id: i.Id, Reason: fmt.Sprintf("service %s is on port %d already as instance %q: remove one of the two", i.Service, i.Port, other)})
		default:
			ids[i.Id], ports[place(i)] = true, i.Id
			valid = append(valid, i)
		}
	}
	return valid, refused
}

// place is what callers name an instance of a host by.
func place(i *apiv1.Instance) string { return fmt.Sprintf("%s:%d", i.GetService(), i.GetPort()) }

// presentFirst puts the instances of a set that the host has in the same place
// already before the others.
func presentFirst(have, set []*apiv1.Instance) []*apiv1.Instance {
	places := make(map[string]string, len(have))
	for _, i := range have {
		places[i.Id] = place(i)
	}
	late := func(i *apiv1.Instance) int {
		if places[i.GetId()] == place(i) {
			return 0
		}
		return 1
	}
	sorted := slices.Clone(set)
	slices.SortStableFunc(sorted, func(a, b *apiv1.Instance) int { return late(a) - late(b) })
	return sorted
}

// maxNamed bounds the refused instances that one text names.
const maxNamed = 20

// describe gives all refusals in one text, empty when there are none.
func describe(refused []*refusal) string {
	var texts []string
	for _, r := range refused[:min(len(refused), maxNamed)] {
		texts = append(texts, fmt.Sprintf("instance %q: %s", r.Id, r.Reason))
	}
	if more := len(refused) - maxNamed; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.ToValidUTF8(strings.Join(texts, "; "), "\uFFFD")
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
	return state.CheckInstance(node, i)
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
