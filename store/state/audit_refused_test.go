package state

import (
	"testing"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// What was refused before it came to the log is recorded with the reason.
func TestARecordWithoutAnEntry(t *testing.T) {
	db := New()
	if r := db.Apply(1, initCluster()); r.Refusal != 0 {
		t.Fatal(r)
	}
	record := &apiv1.AuditRecord{Actor: "host/vm1", Action: "certificate sign", TimeUnixNano: 1, Refusal: "not registered"}
	r := db.Apply(2, &command.Audited{Record: record})
	if level := db.Read().FeatureLevel(nil); level < command.LevelOf(command.TypeAudited) {
		if r.Refusal != command.Refusal_REFUSAL_FEATURE_LEVEL {
			t.Errorf("below its feature level: %v", r)
		}
		db.Apply(3, &command.SetFeatureLevel{Level: command.MaxLevel})
		r = db.Apply(4, &command.Audited{Record: record})
	}
	if r.Refusal != 0 {
		t.Errorf("recording gave %v", r)
	}
	record.Refusal = ""
	if r := db.Apply(5, &command.Audited{Record: record}); r.Refusal == 0 {
		t.Error("a record of nothing was taken")
	}
}
