package slice

import (
	"cmp"
	"slices"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// mergeEndpoints gives a service of which some endpoints changed and some are
// gone; everything else of it is as in the change. The endpoints stay in the
// order of their keys.
func mergeEndpoints(known, change *apiv1.ServiceSlice) *apiv1.ServiceSlice {
	next := &apiv1.ServiceSlice{
		Name: change.Name, Vip: change.Vip, Config: change.Config, Routes: change.Routes, Policies: change.Policies,
		Endpoints: known.Endpoints,
	}
	if len(change.RemovedEndpoints)+len(change.Endpoints) == 0 {
		return next
	}
	replaced := make(map[endpointKey]bool, len(change.RemovedEndpoints)+len(change.Endpoints))
	for _, k := range change.RemovedEndpoints {
		replaced[endpointKey{k.GetNodeId(), k.GetId()}] = true
	}
	for _, e := range change.Endpoints {
		replaced[keyOf(e)] = true
	}
	next.Endpoints = make([]*apiv1.Endpoint, 0, len(known.Endpoints)+len(change.Endpoints))
	for _, e := range known.Endpoints {
		if !replaced[keyOf(e)] {
			next.Endpoints = append(next.Endpoints, e)
		}
	}
	next.Endpoints = append(next.Endpoints, change.Endpoints...)
	slices.SortFunc(next.Endpoints, func(a, b *apiv1.Endpoint) int { return keyOf(a).compare(keyOf(b)) })
	return next
}

// An endpointKey tells endpoints of a service apart.
type endpointKey struct{ nodeID, id string }

func keyOf(e *apiv1.Endpoint) endpointKey { return endpointKey{e.GetNodeId(), e.GetId()} }

func (k endpointKey) compare(o endpointKey) int {
	return cmp.Or(cmp.Compare(k.nodeID, o.nodeID), cmp.Compare(k.id, o.id))
}
