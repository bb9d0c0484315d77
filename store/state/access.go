package state

import (
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

func (w *writer) putAccessToken(c *command.PutAccessToken) error {
	t := proto.CloneOf(c.Token)
	if err := checkID("access token id", t.GetId()); err != nil {
		return err
	}
	if err := checkHash("access token's secret", t.SecretHash); err != nil {
		return err
	}
	if t.Role < apiv1.Role_ROLE_VIEWER || t.Role > apiv1.Role_ROLE_ADMIN {
		return invalid("access token %s has role %v: viewer, operator and admin are those there are", t.Id, t.Role)
	}
	if t.ExpiresUnix < 0 {
		return invalid("access token %s expires at %d, before there was time", t.Id, t.ExpiresUnix)
	}
	if w.AccessToken(nil, t.Id) != nil {
		return refuse(command.Refusal_REFUSAL_EXISTS, "there is an access token %s already", t.Id)
	}
	t.CreateIndex = w.index
	w.put(accessTable, t)
	return nil
}

func (w *writer) removeAccessToken(c *command.RemoveAccessToken) error {
	t := w.AccessToken(nil, c.Id)
	if t == nil {
		return refuse(command.Refusal_REFUSAL_NOT_FOUND, "there is no access token %q", c.Id)
	}
	w.remove(accessTable, t)
	return nil
}
