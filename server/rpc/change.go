package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

const (
	// auditLevel is the feature level from which on changes are recorded.
	auditLevel = 2
	// maxObjects bounds what one record names.
	maxObjects = 100
)

// change has a change applied that a caller asks for, logs it and records who did
// what to which objects, refusals included. An action is named as its command is:
// "token create"; an object by its kind and name: "route/orders-canary". Every
// method that changes something goes this way. A refusal by the state is an error,
// and comes with the result that has more about it.
func (s *Services) change(ctx context.Context, action string, objects []string, msg proto.Message) (*command.Result, error) {
	objects = bounded(objects)
	entry, err := s.recorded(callerOf(ctx), action, objects, msg)
	if err != nil {
		return nil, err
	}
	result, err := s.propose(ctx, entry)
	s.logChange(ctx, action, objects, err)
	return result, err
}

// recorded wraps a command in the record of it, when all servers know how.
func (s *Services) recorded(c *caller, action string, objects []string, msg proto.Message) (proto.Message, error) {
	if s.replica.Local().FeatureLevel(nil) < auditLevel {
		return msg, nil
	}
	entry, err := command.Encode(msg)
	if err != nil {
		return nil, fmt.Errorf("recording %q: %w", action, err)
	}
	return &command.Audited{Entry: entry, Record: &apiv1.AuditRecord{
		TimeUnixNano: time.Now().UnixNano(), Actor: c.name, Role: c.role.record(), Source: c.source,
		Server: s.cfg.Self, Action: action, Objects: objects,
	}}, nil
}

func (s *Services) logChange(ctx context.Context, action string, objects []string, err error) {
	c := callerOf(ctx)
	attrs := []any{"action", action, "objects", objects, "by", c.name, "source", c.source}
	level := slog.LevelInfo
	if err != nil {
		level, attrs = slog.LevelWarn, append(attrs, "reason", plain(err))
	}
	s.log.Log(ctx, level, "change", attrs...)
}

func bounded(objects []string) []string {
	if len(objects) <= maxObjects {
		return objects
	}
	more := fmt.Sprintf("and %d more", len(objects)-maxObjects)
	return append(objects[:maxObjects:maxObjects], more)
}

// record is the role as records have it: none for who has only a join token or a
// host's certificate.
func (r role) record() apiv1.Role {
	switch {
	case r&admins != 0:
		return apiv1.Role_ROLE_ADMIN
	case r&operator != 0:
		return apiv1.Role_ROLE_OPERATOR
	case r&viewer != 0:
		return apiv1.Role_ROLE_VIEWER
	}
	return apiv1.Role_ROLE_UNSPECIFIED
}
