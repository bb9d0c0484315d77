package state

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

const isLevel = command.Refusal_REFUSAL_FEATURE_LEVEL

// level1.log is a log as the first version of meshd wrote it, level1.snapshot
// what that version made of it. Whatever servers learn since, it stays the same.
func TestLogOfTheFirstVersion(t *testing.T) {
	log, err := os.ReadFile("testdata/level1.log")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/level1.snapshot")
	if err != nil {
		t.Fatal(err)
	}
	db := New()
	for len(log) > 0 {
		index, n := binary.BigEndian.Uint64(log), binary.BigEndian.Uint32(log[8:])
		entry := log[12 : 12+n]
		log = log[12+n:]
		msg, _ := command.Decode(entry) // some are of no known type
		db.Apply(index, msg)
	}
	if !bytes.Equal(want, snapshot(t, db)) {
		m := &testMesh{T: t, db: New()}
		if err := m.db.Restore(bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		m.same(m.rows(), (&testMesh{db: db}).rows())
		t.Fatal("the log of the first version is applied differently now")
	}
}

// Below its level a command is refused, says who does not know it, and leaves
// no trace, not even when it is audited.
func TestCommandsAboveTheLevelAreRefused(t *testing.T) {
	m := newLevel1(t)
	for i := range command.Type(256) {
		msg := i.New()
		if msg == nil || command.LevelOf(i) < 2 {
			continue
		}
		m.refused(msg, isLevel, `server "server-s1" runs meshd of an unknown version, which does not know `+command.Name(msg))
		if err := m.db.Read().CheckLevel(msg); err == nil {
			t.Errorf("%s may be proposed", command.Name(msg))
		}
	}
	m.refused(audited(set(serviceResource("web"))), isLevel, "Audited")

	knows := server("s1")
	m.ok(&command.PutServer{Server: knows})
	m.refused(&command.PutAccessToken{Token: accessToken("ci")}, isLevel, "about to raise it")
	m.ok(&command.SetFeatureLevel{Level: 2})
	m.ok(&command.PutAccessToken{Token: accessToken("ci")})
}

func TestCheckLevelLooksInside(t *testing.T) {
	m := newMesh(t)
	txn := m.db.Read()
	if err := txn.CheckLevel(audited(&command.Reap{TimeUnix: now})); err != nil {
		t.Error(err)
	}
	if err := txn.checkLevel(nil); err != nil { // is refused as unknown
		t.Error(err)
	}
}

func TestSetFeatureLevel(t *testing.T) {
	m := newLevel1(t)
	m.refused(&command.SetFeatureLevel{Level: 2}, isLevel, "server-s1")
	m.unchanged(&command.SetFeatureLevel{Level: 1})
	m.ok(&command.PutServer{Server: server("s1")})
	if level := m.db.Read().FeatureLevel(nil); level != 1 {
		t.Fatalf("level %d", level)
	}
	m.ok(&command.SetFeatureLevel{Level: 2})
	if level := m.db.Read().FeatureLevel(nil); level != 2 {
		t.Fatalf("level %d", level)
	}
	m.unchanged(&command.SetFeatureLevel{Level: 1})
	m.refused(&command.SetFeatureLevel{Level: 3}, isLevel, "does not know feature level 3")
}

// A server that knows too little does not get in, nor does one go back to it.
func TestServersBelowTheLevelAreRefused(t *testing.T) {
	m := newMesh(t)
	old := server("s2")
	old.FeatureLevel, old.Version = 0, "0.1.0"
	want := `server "server-s2" runs meshd 0.1.0, which knows feature level 1, and the mesh is at level 2: update that server`
	m.refused(&command.PutServer{Server: old, TokenId: "any", TimeUnix: now}, isLevel, want)
	m.ok(&command.PutServer{Server: server("s2"), TokenId: "any", TimeUnix: now})
	m.refused(&command.PutServer{Server: old}, isLevel, "update that server")
	m.refused(&command.UpdateServer{Server: old}, isLevel, "update that server")

	c := initCluster()
	c.Server.FeatureLevel = 1
	(&testMesh{T: t, db: New()}).refused(c, isLevel, "update that server")
}

// What is new in old commands is without effect below its level, as it is on
// the servers that do not know it.
func TestNewFieldsBelowTheirLevel(t *testing.T) {
	m := newLevel1(t)
	c := initCluster()
	c.Cluster.FeatureLevel, c.GossipKeys = 0, &apiv1.GossipKeys{Sealed: [][]byte{[]byte("key")}}
	fresh := &testMesh{T: t, db: New()}
	fresh.ok(c)
	if k := fresh.db.Read().GossipKeys(nil); k != nil {
		t.Errorf("%v", k)
	}
	m.ok(&command.PutToken{Token: &apiv1.Token{Id: "any", SecretHash: sum('t'), ExpiresUnix: now + 3600, WholeCatalogue: true}})
	m.ok(join("n1", "vm1", "any"))
	take := lease("n1", 1)
	take.TimeUnix = now
	m.ok(take)
	if n := m.db.Read().Node(nil, "n1"); n.StateUnix != 0 || n.WholeCatalogue {
		t.Errorf("%v", n)
	}
	m.ok(set(serviceResource("web")))
	remove := unset("service", "web")
	remove.Remove[0].Version = 1
	m.ok(remove)
}

func TestSnapshotOfAHigherLevelIsRefused(t *testing.T) {
	cluster := proto.CloneOf(initCluster().Cluster)
	cluster.FeatureLevel = command.MaxLevel + 1
	err := New().Restore(bytes.NewReader(forge(&Record{Row: &Record_Cluster{cluster}})))
	if err == nil || !strings.Contains(err.Error(), "update this server") {
		t.Fatal(err)
	}
}
