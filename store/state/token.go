package state

import (
	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/store/command"
)

// anyService is what a token that names no services allows.
const anyService = "*"

func (w *writer) putToken(c *command.PutToken) error {
	t := proto.CloneOf(c.Token)
	if err := checkID("token id", t.GetId()); err != nil {
		return err
	}
	if err := checkHash("token's secret", t.SecretHash); err != nil {
		return err
	}
	if t.ExpiresUnix <= 0 {
		return invalid("token %s does not say when it expires", t.Id)
	}
	if w.Token(nil, t.Id) != nil {
		return refuse(command.Refusal_REFUSAL_EXISTS, "there is a token %s already", t.Id)
	}
	if len(t.AllowedServices) == 0 {
		t.AllowedServices = []string{anyService}
	}
	t.UsedBy, t.UsedUnix, t.CreateIndex = nil, 0, w.index
	w.put(tokenTable, t)
	return nil
}

func (w *writer) removeToken(c *command.RemoveToken) error {
	t := w.Token(nil, c.Id)
	if t == nil {
		return refuse(command.Refusal_REFUSAL_NOT_FOUND, "there is no token %q: meshd token list shows those there are", c.Id)
	}
	w.remove(tokenTable, t)
	return nil
}
