package httpapi

import (
	"net/http"

	"google.golang.org/protobuf/proto"
)

// An endpoint is one method under one path.
type endpoint struct {
	Verb, Path string
	Method     string // of Admin
	// body says that the request has one: the fields of the method's request.
	// Query and path set fields by their names, after it.
	body bool
	// read fills in the request where that is not enough.
	read func(r *http.Request, request proto.Message) error
	// write answers where the reply as JSON will not do.
	write func(w http.ResponseWriter, r *http.Request, request, reply proto.Message) error
	// stream serves methods with streams, instead of all that.
	stream func(methods Methods, w http.ResponseWriter, r *http.Request) error
}

// endpoints is the whole API; docs/api.md describes it row by row.
var endpoints = []endpoint{
	{Verb: "GET", Path: "/v1/status", Method: "Status"},
	{Verb: "GET", Path: "/v1/members", Method: "Members"},
	{Verb: "GET", Path: "/v1/services", Method: "ListServices"},
	{Verb: "GET", Path: "/v1/services/{name}", Method: "ListServices", write: writeService},
	{Verb: "GET", Path: "/v1/resources", Method: "GetResources", write: writeResources},
	{Verb: "GET", Path: "/v1/resources/{kind}", Method: "GetResources", write: writeResources},
	{Verb: "GET", Path: "/v1/resources/{kind}/{name}", Method: "GetResources", write: writeResource},
	{Verb: "PUT", Path: "/v1/resources/{kind}/{name}", Method: "Apply", read: readResource, write: writeChanged},
	{Verb: "DELETE", Path: "/v1/resources/{kind}/{name}", Method: "Delete", read: readDelete, write: writeDeleted},
	{Verb: "POST", Path: "/v1/apply", Method: "Apply", read: readResources, write: writeApplied},
	{Verb: "GET", Path: "/v1/audit", Method: "Audit"},
	{Verb: "GET", Path: "/v1/tokens", Method: "ListTokens"},
	{Verb: "POST", Path: "/v1/tokens", Method: "CreateToken", body: true, write: writeCreated},
	{Verb: "DELETE", Path: "/v1/tokens/{id}", Method: "RevokeToken"},
	{Verb: "GET", Path: "/v1/access-tokens", Method: "ListAccessTokens"},
	{Verb: "POST", Path: "/v1/access-tokens", Method: "CreateAccessToken", body: true, write: writeCreated},
	{Verb: "DELETE", Path: "/v1/access-tokens/{id}", Method: "RevokeAccessToken"},
	{Verb: "DELETE", Path: "/v1/hosts/{name}", Method: "RemoveHost"},
	{Verb: "DELETE", Path: "/v1/servers/{name}", Method: "RemoveServer"},
	{Verb: "GET", Path: "/v1/raft/peers", Method: "RaftPeers"},
	{Verb: "POST", Path: "/v1/raft/transfer", Method: "TransferLeadership", body: true},
	{Verb: "GET", Path: "/v1/keyring", Method: "ListGossipKeys"},
	{Verb: "POST", Path: "/v1/keyring/rotate", Method: "RotateGossipKey"},
	{Verb: "GET", Path: "/v1/ca", Method: "ShowAuthority"},
	{Verb: "POST", Path: "/v1/ca/rotate", Method: "RotateAuthority", body: true},
	{Verb: "GET", Path: "/v1/snapshot", Method: "SaveSnapshot", stream: saveSnapshot},
	{Verb: "PUT", Path: "/v1/snapshot", Method: "RestoreSnapshot", stream: restoreSnapshot},
}

func (e *endpoint) serve(methods Methods, w http.ResponseWriter, r *http.Request) {
	if err := e.answer(methods, w, r); err != nil {
		writeError(w, r, err)
	}
}

func (e *endpoint) answer(methods Methods, w http.ResponseWriter, r *http.Request) error {
	if e.stream != nil {
		return e.stream(methods, w, r)
	}
	var request proto.Message
	reply, err := methods.Call(r.Context(), e.Method, func(m proto.Message) error {
		request = m
		return e.decode(w, r, m)
	})
	if err != nil {
		return err
	}
	if e.write != nil {
		return e.write(w, r, request, reply)
	}
	return writeMessage(w, http.StatusOK, reply)
}

// decode fills in the request of a method.
func (e *endpoint) decode(w http.ResponseWriter, r *http.Request, request proto.Message) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	switch {
	case e.read != nil:
		if err := e.read(r, request); err != nil {
			return err
		}
	case e.body:
		if err := readMessage(r, request); err != nil {
			return err
		}
	case r.ContentLength != 0:
		return badRequest(http.StatusBadRequest, "leave the body out", "%s %s takes no body", r.Method, e.Path)
	}
	return bind(e, r, request)
}

// Endpoints lists what there is, each as "GET /v1/status" and the name of its
// method.
func Endpoints() map[string]string {
	list := map[string]string{}
	for _, e := range endpoints {
		list[e.Verb+" "+e.Path] = e.Method
	}
	return list
}
