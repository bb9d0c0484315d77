package state

import (
	"testing"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

func TestAudited(t *testing.T) {
	m := newMesh(t)
	c := audited(set(serviceResource("web")))
	r := m.ok(c)
	m.same("service web created", changes(r))
	want := c.Record
	want.Index = m.index
	m.same([]*apiv1.AuditRecord{want}, m.db.Read().Audit(nil, 0, 0))
	if m.db.Read().Resource(nil, "service", "web") == nil {
		t.Error("the change was recorded and not made")
	}
}

// A change that the state refuses is on record, and nothing else has changed.
func TestAuditedRefusal(t *testing.T) {
	m := newMesh(t)
	before := m.rows()
	c := audited(unset("service", "none"))
	if r := m.apply(c); r.Refusal != isNotFound {
		t.Fatalf("%v", r)
	}
	got := m.rows()
	want := c.Record
	want.Index, want.Refusal = m.index, "not found"
	m.same(append(before, &Record{Row: &Record_Audit{want}}), got)
}

func TestAuditedRefuses(t *testing.T) {
	m := newMesh(t)
	nobody := audited(set(serviceResource("web")))
	nobody.Record.Actor = ""
	m.refused(nobody, isInvalid, "who did what")
	timeless := audited(set(serviceResource("web")))
	timeless.Record.TimeUnixNano = 0
	m.refused(timeless, isInvalid, "who did what")

	recorded := func(entry []byte, kind command.Refusal, why string) {
		t.Helper()
		c := audited(set())
		c.Entry = entry
		if r := m.apply(c); r.Refusal != kind {
			t.Fatalf("%v", r)
		}
		if got := m.db.Read().Audit(nil, 0, 1)[0]; got.Index != m.index || got.Refusal != why {
			t.Fatalf("%v", got)
		}
	}
	recorded(nil, isInvalid, "invalid")
	recorded([]byte{1, 0, 99}, isUnknown, "unknown entry")
	recorded(audited(set()).Entry[:2], isInvalid, "invalid")
	nested, err := command.Encode(audited(set()))
	if err != nil {
		t.Fatal(err)
	}
	recorded(nested, isInvalid, "invalid")
}

func TestAuditPages(t *testing.T) {
	m := newMesh(t)
	for range 5 {
		m.ok(audited(set()))
	}
	f := func(before uint64, limit int, want ...uint64) {
		t.Helper()
		var got []uint64
		for _, r := range m.db.Read().Audit(nil, before, limit) {
			got = append(got, r.Index)
		}
		m.same(want, got)
	}
	f(0, 0, 17, 16, 15, 14, 13)
	f(0, 2, 17, 16)
	f(16, 2, 15, 14)
	f(14, 2, 13)
	f(13, 0)
	f(1000, 1, 17)
	m.ok(&command.Reap{TimeUnix: now, KeepAuditRecords: 3})
	f(0, 0, 17, 16, 15)
	m.unchanged(&command.Reap{TimeUnix: now, KeepAuditRecords: 3})
	m.unchanged(&command.Reap{TimeUnix: now, KeepAuditRecords: 4})
	m.unchanged(&command.Reap{TimeUnix: now})
}
