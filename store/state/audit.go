package state

import (
	"errors"
	"strings"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// audited applies the entry inside, and records it in the same transaction.
func (w *writer) audited(c *command.Audited) error {
	if err := checkRecord(c.Record); err != nil {
		return err
	}
	if len(c.Entry) == 0 && c.Record.Refusal != "" {
		w.record(c.Record, c.Record.Refusal)
		return nil
	}
	inner, err := command.Decode(c.Entry)
	var unknown *command.UnknownError
	if errors.As(err, &unknown) {
		return refuse(command.Refusal_REFUSAL_UNKNOWN_ENTRY, "%v", err)
	}
	if err != nil {
		return invalid("%v", err)
	}
	if _, nested := inner.(*command.Audited); nested {
		return invalid("an audited entry has another one inside")
	}
	if err := w.apply(inner); err != nil {
		return err
	}
	w.record(c.Record, "")
	return nil
}

func checkRecord(r *apiv1.AuditRecord) error {
	if r.GetActor() == "" || r.GetAction() == "" || r.GetTimeUnixNano() <= 0 {
		return invalid("the audit record does not say who did what, and when")
	}
	return nil
}

// recordRefused records what was audited and refused. An audited entry that has
// no business in the log leaves no trace.
func (w *writer) recordRefused(msg proto.Message, why command.Refusal) {
	c, ok := msg.(*command.Audited)
	if ok && w.Cluster(nil) != nil && w.checkLevel(c) == nil && checkRecord(c.Record) == nil {
		w.record(c.Record, wordsFor(why))
	}
}

func (w *writer) record(r *apiv1.AuditRecord, refusal string) {
	r = proto.CloneOf(r)
	r.Index, r.Refusal = w.index, refusal
	w.put(auditTable, r)
}

// wordsFor gives a refusal as it is recorded, such as "not found". The messages
// of refusals are no part of the state: they would have to stay for good.
func wordsFor(why command.Refusal) string {
	name := strings.TrimPrefix(why.String(), "REFUSAL_")
	return strings.ToLower(strings.ReplaceAll(name, "_", " "))
}
