package control

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/agent/slice"
	apiv1 "github.com/meshd/meshd/api/v1"
)

// introduce says what of the mesh the host knows, so that it is told only what
// came after.
func introduce(hello *apiv1.Hello, held *slice.Slice) {
	hello.SliceVersion, hello.Scoped = held.Version, held.Scoped
	if held.Scoped {
		hello.Details = slices.Sorted(maps.Keys(held.Services))
	}
}

// take gathers the messages of an update and merges it when all of it is there.
func (s *session) take(u *apiv1.SliceUpdate) error {
	whole := u
	if s.partial != nil {
		if u.GetVersion() != s.partial.GetVersion() {
			return fmt.Errorf("the server began with an update to version %d before that to version %d was complete", u.GetVersion(), s.partial.GetVersion())
		}
		whole = s.partial
		proto.Merge(whole, u)
	}
	if u.GetMore() {
		s.partial = whole
		return nil
	}
	s.partial = nil
	return s.client.merge(whole)
}
