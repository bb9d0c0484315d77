package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/mesh"
)

// Resources are written as people write them, in the form of their YAML: what is
// read can be written again, and what files have can be sent.

// readResources reads the body of /v1/apply: a list of resources, or one.
func readResources(r *http.Request, request proto.Message) error {
	data, err := readBody(r, "application/json")
	if err != nil {
		return err
	}
	var list []json.RawMessage
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("[")) {
		err = json.Unmarshal(data, &list)
	} else {
		list = []json.RawMessage{data}
	}
	if err != nil || !json.Valid(data) {
		return badRequest(http.StatusBadRequest, "send a resource, or a list of them", "the body is no JSON")
	}
	apply := request.(*apiv1.ApplyRequest)
	var problems []problem
	for i, document := range list {
		resource, found := decodeResource(i, document)
		problems = append(problems, found...)
		apply.Resources = append(apply.Resources, resource)
	}
	return mistakes(problems)
}

// readResource reads the body of a PUT, which says nothing else than its path.
func readResource(r *http.Request, request proto.Message) error {
	data, err := readBody(r, "application/json")
	if err != nil {
		return err
	}
	if !json.Valid(data) {
		return badRequest(http.StatusBadRequest, "send a resource", "the body is no JSON")
	}
	resource, problems := decodeResource(0, data)
	if err := mistakes(problems); err != nil {
		return err
	}
	if kind, name := r.PathValue("kind"), r.PathValue("name"); mesh.ResourceKind(resource) != kind || resource.Name != name {
		return badRequest(http.StatusBadRequest, "send it to its own path", "the body is of %s, and the path of %s", mesh.KeyOf(resource), mesh.ResourceKey{Kind: kind, Name: name})
	}
	version, err := ifMatch(r)
	if err != nil {
		return err
	}
	if version != 0 && resource.Version != 0 && version != resource.Version {
		return badRequest(http.StatusBadRequest, "leave one of them out", "if-match names version %d, and the body version %d", version, resource.Version)
	}
	resource.Version = max(version, resource.Version)
	request.(*apiv1.ApplyRequest).Resources = []*apiv1.Resource{resource}
	return nil
}

func decodeResource(index int, document []byte) (*apiv1.Resource, []problem) {
	docs, err := config.DecodeResources("", document)
	var found config.Problems
	switch {
	case errors.As(err, &found):
	case err != nil:
		return nil, []problem{{Resource: index, Message: err.Error()}}
	case len(docs) == 1:
		return docs[0].Resource, nil
	default:
		return nil, []problem{{Resource: index, Message: "here is no resource"}}
	}
	problems := make([]problem, len(found))
	for i, p := range found {
		problems[i] = problem{Resource: index, Line: p.Line, Column: p.Column, Message: p.Message, Fix: p.Fix}
	}
	return nil, problems
}

func readDelete(r *http.Request, request proto.Message) (err error) {
	if r.ContentLength != 0 {
		return badRequest(http.StatusBadRequest, "leave the body out", "a DELETE takes no body")
	}
	request.(*apiv1.DeleteRequest).Version, err = ifMatch(r)
	return err
}

// ifMatch gives the version that must be there for a change to be made, 0 for any.
func ifMatch(r *http.Request) (version uint64, err error) {
	if r.Header.Get("If-None-Match") != "" {
		return 0, badRequest(http.StatusBadRequest, "leave it out", "if-none-match is not known here")
	}
	tags := r.Header.Values("If-Match")
	if len(tags) == 0 {
		return 0, nil
	}
	text, opened := strings.CutPrefix(tags[0], `"`)
	text, closed := strings.CutSuffix(text, `"`)
	version, err = strconv.ParseUint(text, 10, 64)
	if len(tags) > 1 || !opened || !closed || err != nil || version == 0 {
		return 0, badRequest(http.StatusBadRequest, `write it as the etag was: "7"`, "if-match is not one version in quotes")
	}
	return version, nil
}

func etag(version uint64) string { return fmt.Sprintf(`"%d"`, version) }

// mistakes is the error of a request with problems.
func mistakes(problems []problem) error {
	if len(problems) == 0 {
		return nil
	}
	first := problems[0].Message
	if key := (mesh.ResourceKey{Kind: problems[0].Kind, Name: problems[0].Name}); key.Kind != "" {
		first = fmt.Sprintf("%s: %s", key, first)
	}
	e := badRequest(http.StatusBadRequest, problems[0].Fix, "%s", first)
	if len(problems) > 1 {
		e = badRequest(http.StatusBadRequest, "correct what problems lists", "%d mistakes found, and nothing was changed; the first: %s", len(problems), first)
	}
	e.Problems = problems
	return e
}

// refused is the error of a change that the servers refused. A problem with a
// version is a conflict with who was there before.
func refused(r *http.Request, changed []*apiv1.Resource, problems []*apiv1.Problem) error {
	list := make([]problem, len(problems))
	stale := false
	for i, p := range problems {
		list[i] = problem{Resource: int(p.Resource), Path: p.Path, Message: p.Message, Fix: p.Fix}
		if list[i].Resource < len(changed) {
			key := mesh.KeyOf(changed[p.Resource])
			list[i].Kind, list[i].Name = key.Kind, key.Name
		}
		stale = stale || p.Path == "version"
	}
	err := mistakes(list)
	var e *apiError
	if errors.As(err, &e) && stale {
		e.Code, e.status = "aborted", http.StatusConflict
		if r.Header.Get("If-Match") != "" {
			e.status = http.StatusPreconditionFailed
		}
	}
	return err
}

func encodeResource(r *apiv1.Resource) (json.RawMessage, error) {
	document, err := config.EncodeResource(r)
	if err != nil {
		return nil, err
	}
	return config.YAMLToJSON(document)
}

func writeResources(w http.ResponseWriter, _ *http.Request, _, reply proto.Message) error {
	m := reply.(*apiv1.GetResourcesReply)
	body := struct {
		Resources []json.RawMessage `json:"resources"`
		Next      string            `json:"next"`
	}{[]json.RawMessage{}, m.Next}
	for _, resource := range m.Resources {
		document, err := encodeResource(resource)
		if err != nil {
			return err
		}
		body.Resources = append(body.Resources, document)
	}
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, data)
}

func writeResource(w http.ResponseWriter, r *http.Request, _, reply proto.Message) error {
	m := reply.(*apiv1.GetResourcesReply)
	if len(m.Resources) == 0 {
		return badRequest(http.StatusNotFound, "see what there is: /v1/resources", "there is no %s", mesh.ResourceKey{Kind: r.PathValue("kind"), Name: r.PathValue("name")})
	}
	document, err := encodeResource(m.Resources[0])
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(m.Resources[0].Version))
	return writeJSON(w, http.StatusOK, document)
}

func writeApplied(w http.ResponseWriter, r *http.Request, request, reply proto.Message) error {
	m := reply.(*apiv1.ApplyReply)
	if len(m.Problems) > 0 {
		return refused(r, request.(*apiv1.ApplyRequest).Resources, m.Problems)
	}
	return writeMessage(w, http.StatusOK, m)
}

// writeChanged answers a PUT. What was not changed has the version that it had,
// which the reply does not know.
func writeChanged(w http.ResponseWriter, r *http.Request, request, reply proto.Message) error {
	m := reply.(*apiv1.ApplyReply)
	if len(m.Problems) > 0 {
		return refused(r, request.(*apiv1.ApplyRequest).Resources, m.Problems)
	}
	status := http.StatusOK
	for _, change := range m.Changes {
		if change.Action == "created" {
			status = http.StatusCreated
		}
		if change.Action != "unchanged" && m.Version != 0 {
			w.Header().Set("ETag", etag(m.Version))
		}
	}
	return writeMessage(w, status, m)
}

func writeDeleted(w http.ResponseWriter, r *http.Request, _, reply proto.Message) error {
	m := reply.(*apiv1.DeleteReply)
	if len(m.Problems) > 0 {
		return refused(r, nil, m.Problems)
	}
	return writeMessage(w, http.StatusOK, m)
}

func writeService(w http.ResponseWriter, r *http.Request, _, reply proto.Message) error {
	m := reply.(*apiv1.ListServicesReply)
	if len(m.Services) == 0 {
		return badRequest(http.StatusNotFound, "see what there is: /v1/services", "there is no service %q that fits", r.PathValue("name"))
	}
	return writeMessage(w, http.StatusOK, m.Services[0])
}
