package rpc

import (
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// A role is what a caller has proved to be.
type role uint8

const (
	// stranger proved nothing.
	stranger role = 1 << iota
	// service has a service's certificate, which is for calls between services.
	service
	// host is a member of the mesh, by its certificate.
	host
	// server is a member of the control plane, by its certificate.
	server
	// viewer, operator and administrator bear an access token. Root on a server's host, and
	// the user that the server runs as, is an administrator too.
	viewer
	operator
	administrator
)

// Who may do what, as sets of roles.
const (
	anybody   = stranger | host | server | viewer | operator | administrator
	viewers   = viewer | operators
	operators = operator | admins
	admins    = administrator | server
)

// mayCall says for every method who may call it. What is not listed nobody may.
func mayCall(method string) role {
	switch method {
	case apiv1.Enroll_Join_FullMethodName:
		return anybody // the token decides
	case apiv1.Control_Connect_FullMethodName,
		apiv1.Control_Sign_FullMethodName:
		return host
	case apiv1.Admin_Status_FullMethodName,
		apiv1.Admin_Members_FullMethodName,
		apiv1.Admin_ListServices_FullMethodName,
		apiv1.Admin_GetResources_FullMethodName:
		return viewers | host
	case apiv1.Admin_Audit_FullMethodName,
		apiv1.Admin_RaftPeers_FullMethodName,
		apiv1.Admin_ListGossipKeys_FullMethodName,
		apiv1.Admin_ShowAuthority_FullMethodName:
		return viewers
	case apiv1.Admin_Apply_FullMethodName,
		apiv1.Admin_Delete_FullMethodName,
		apiv1.Admin_CreateToken_FullMethodName, // for a server: admins, see there
		apiv1.Admin_ListTokens_FullMethodName,
		apiv1.Admin_RevokeToken_FullMethodName,
		apiv1.Admin_RemoveHost_FullMethodName:
		return operators
	case apiv1.Admin_CreateAccessToken_FullMethodName,
		apiv1.Admin_ListAccessTokens_FullMethodName,
		apiv1.Admin_RevokeAccessToken_FullMethodName,
		apiv1.Admin_RemoveServer_FullMethodName,
		apiv1.Admin_TransferLeadership_FullMethodName,
		apiv1.Admin_RotateGossipKey_FullMethodName,
		apiv1.Admin_RotateAuthority_FullMethodName,
		apiv1.Admin_SaveSnapshot_FullMethodName,
		apiv1.Admin_RestoreSnapshot_FullMethodName:
		return admins
	case apiv1.Peer_Propose_FullMethodName,
		apiv1.Peer_ReadIndex_FullMethodName,
		apiv1.Peer_Progress_FullMethodName,
		apiv1.Peer_Agents_FullMethodName:
		return server
	}
	return 0
}

// authorise reports why a caller may not call a method, and the way out.
func authorise(c *caller, method string) error {
	allowed := mayCall(method)
	if allowed&c.role != 0 {
		return nil
	}
	short := method[strings.LastIndexByte(method, '/')+1:]
	switch {
	case allowed&administrator != 0 && c.role == host:
		return status.Errorf(codes.PermissionDenied, "a host may not ask for %s: run it on a server host, as root", short)
	case allowed&administrator != 0 && c.uid != nil:
		return status.Errorf(codes.PermissionDenied, "user %d may not ask for %s: run it as root", *c.uid, short)
	case c.role == stranger && allowed&administrator != 0:
		return status.Errorf(codes.Unauthenticated, "%s needs a certificate of the mesh or an access token, and none was shown", short)
	case c.bearer:
		return status.Errorf(codes.PermissionDenied, "%s may not ask for %s: its role is too low, it takes one of the role %s", c.name, short, lowest(allowed))
	case c.role == stranger:
		return status.Errorf(codes.Unauthenticated, "%s needs a certificate of the mesh, and none was shown", short)
	}
	return status.Errorf(codes.PermissionDenied, "%s may not ask for %s", c.name, short)
}

// lowest is the least role of an access token that is among those allowed.
func lowest(allowed role) string {
	switch {
	case allowed&viewer != 0:
		return "viewer"
	case allowed&operator != 0:
		return "operator"
	}
	return "admin"
}
