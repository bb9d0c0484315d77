package state

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/command"
)

// setResources checks what the tables rest on. Whether resources make sense,
// together and by themselves, was checked before they were proposed.
func (w *writer) setResources(c *command.SetResources) error {
	named := map[mesh.ResourceKey]bool{}
	for _, r := range c.Put {
		if err := checkResource(r, named); err != nil {
			return err
		}
	}
	if err := w.checkVersions(c); err != nil {
		return err
	}
	for _, r := range c.Put {
		w.putResource(r)
	}
	for _, k := range c.Remove {
		if named[mesh.ResourceKey{Kind: k.Kind, Name: k.Name}] {
			return invalid("%s %q is both put and removed", k.Kind, k.Name)
		}
		if err := w.removeResource(k); err != nil {
			return err
		}
	}
	return nil
}

// checkResource checks one resource and adds its key to those named.
func checkResource(r *apiv1.Resource, named map[mesh.ResourceKey]bool) error {
	key := mesh.KeyOf(r)
	if key.Kind == "" {
		return invalid("resource %q is of no kind that this version of meshd knows", key.Name)
	}
	if err := mesh.CheckName(key.Name); err != nil {
		return errorIn(err, "%s", key)
	}
	if key.Kind == mesh.ResourceMesh && key.Name != mesh.MeshName {
		return invalid("%s: the one resource of kind mesh has the name %q", key, mesh.MeshName)
	}
	if key.Kind != mesh.ResourceMesh {
		if err := mesh.CheckName(serviceOf(r)); err != nil {
			return errorIn(err, "service of %s", key)
		}
	}
	if named[key] {
		return invalid("%s is there twice", key)
	}
	named[key] = true
	return nil
}

// checkVersions refuses to write over, or remove, changes that the writer has
// not seen. Problems with what is to be removed are numbered after what is put.
func (w *writer) checkVersions(c *command.SetResources) error {
	conflict := &refusal{kind: command.Refusal_REFUSAL_CONFLICT}
	for i, r := range c.Put {
		conflict.add(i, w.checkVersion(mesh.KeyOf(r), r.Version))
	}
	for i, k := range c.Remove {
		key := mesh.ResourceKey{Kind: k.Kind, Name: k.Name}
		if w.FeatureLevel(nil) >= 2 && w.Resource(nil, k.Kind, k.Name) != nil {
			conflict.add(len(c.Put)+i, w.checkVersion(key, k.Version))
		}
	}
	if len(conflict.problems) == 0 {
		return nil
	}
	conflict.message = conflict.problems[0].Message
	return conflict
}

// checkVersion names both versions when they differ; 0 is not checked.
func (w *writer) checkVersion(key mesh.ResourceKey, version uint64) *apiv1.Problem {
	stored := w.Resource(nil, key.Kind, key.Name).GetVersion()
	if version == 0 || version == stored {
		return nil
	}
	p := &apiv1.Problem{
		Path:    "version",
		Message: fmt.Sprintf("%s was read at version %d and is at version %d now", key, version, stored),
		Fix:     "read it again and make the change there, or leave out the version to write over what is there",
	}
	if stored == 0 {
		p.Message = fmt.Sprintf("%s was read at version %d and is not there any more", key, version)
	}
	return p
}

func (w *writer) putResource(r *apiv1.Resource) {
	r = proto.CloneOf(r)
	known := w.Resource(nil, mesh.ResourceKind(r), r.Name)
	if known != nil {
		r.Version = known.Version
		if proto.Equal(r, known) {
			w.report(r, "unchanged")
			return
		}
		w.touchFor(known)
	}
	r.Version = w.index
	w.put(resourceTable, r)
	w.touchFor(r)
	if known == nil {
		w.report(r, "created")
	} else {
		w.report(r, "updated")
	}
}

func (w *writer) removeResource(k *command.ResourceKey) error {
	r := w.Resource(nil, k.Kind, k.Name)
	if r == nil {
		return refuse(command.Refusal_REFUSAL_NOT_FOUND, "there is no %s %q", k.Kind, k.Name)
	}
	w.remove(resourceTable, r)
	w.touchFor(r)
	w.report(r, "deleted")
	return nil
}

// touchFor touches what a change to the resource shows in.
func (w *writer) touchFor(r *apiv1.Resource) {
	if service := serviceOf(r); service != "" {
		w.touch(service)
	} else {
		w.setMark(meshMark)
	}
}

func (w *writer) report(r *apiv1.Resource, action string) {
	w.note(mesh.ResourceKind(r), r.Name, action)
}
