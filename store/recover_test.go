package store

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/raftlog"
	"github.com/meshd/meshd/store/state"
)

// register makes the cluster's servers known to the state, as their admission
// does.
func (c *cluster) register(leader *Store, ids ...string) {
	for _, id := range ids {
		token, server := admission(id, c.address(id))
		c.apply(leader, token)
		c.apply(leader, server)
	}
}

func admission(id, address string) (*command.PutToken, *command.PutServer) {
	return &command.PutToken{Token: &apiv1.Token{
			Id: "token" + id, SecretHash: make([]byte, 32), Server: true, ExpiresUnix: time.Now().Add(time.Hour).Unix(),
		}}, &command.PutServer{TokenId: "token" + id, TimeUnix: time.Now().Unix(), Server: &apiv1.Server{
			Id: id, Name: "vm" + id, Address: address, GossipAddress: address, KeyHash: []byte(strings.Repeat(id, 16)), FeatureLevel: command.MaxLevel,
		}}
}

// Alone after a majority was lost, a server leads again, with all that it had,
// and the others are forgotten.
func TestRecover(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		c.register(leader, "s2", "s3")
		c.level2(leader)
		index := c.writeMany(leader, "web", 30)
		for id := range c.stores {
			c.sees(id, index)
		}
		c.stopAll()
		before, err := Inspect(c.dirs["s2"])
		c.must(err)
		if before.ClusterID != "c1" || before.Applied != index || before.LastIndex < index || len(before.Members) != 3 || before.Size == 0 || before.Recovery != 0 || before.LastTime.IsZero() || before.Term == 0 {
			c.Errorf("before: %+v", before)
		}
		done, err := Recover(c.dirs["s2"], RecoverOptions{ID: "s2", Time: time.Now()})
		c.must(err)
		if done.Already || done.Recovery != 1 || done.Index != before.LastIndex+2 || len(done.Members) != 1 || done.Members[0] != (Member{"s2", c.address("s2"), true}) {
			c.Errorf("%+v", done)
		}
		c.checkBackup(done.Backup, before)

		again, err := Recover(c.dirs["s2"], RecoverOptions{ID: "s2", Time: time.Now()})
		c.must(err)
		if !again.Already || again.Index != done.Index || again.Recovery != 1 || again.Backup != done.Backup {
			c.Errorf("a second time: %+v", again)
		}
		alone := c.start("s2")
		c.leaderSeenBy("s2")
		c.sees("s2", c.write(alone, "after").Index, "web0", "web29", "after")
		txn := alone.db.Read()
		if len(txn.Servers(nil)) != 1 || txn.Cluster(nil).Recovery != 1 {
			c.Errorf("servers %v, cluster %v", txn.Servers(nil), txn.Cluster(nil))
		}
		members, err := alone.Servers()
		c.must(err)
		if len(members) != 1 {
			c.Errorf("members %v", members)
		}
		c.addHost("s4")
		c.start("s4")
		c.must(alone.AddVoter(c.Context(), "s4", c.address("s4")))
		c.sees("s4", c.write(alone, "joined").Index, "web0", "after", "joined")
	})
}

// checkBackup finds in a backup what was there.
func (c *cluster) checkBackup(dir string, want Contents) {
	c.Helper()
	copied := filepath.Join(c.TempDir(), "copy")
	c.must(os.CopyFS(copied, os.DirFS(dir)))
	got, err := Inspect(copied)
	c.must(err)
	if got.LastIndex != want.LastIndex || got.Applied != want.Applied || len(got.Members) != len(want.Members) || got.Recovery != want.Recovery {
		c.Errorf("the backup has %+v, there was %+v", got, want)
	}
}

// What an attempt that was cut short left is in nobody's way.
func TestRecoverCutShort(t *testing.T) {
	bubble(t, 3, oftenSnapshots, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		c.register(leader, "s2", "s3")
		c.level2(leader)
		index := c.writeMany(leader, "web", 60)
		c.pass(time.Second)
		c.sees("s3", index)
		c.stopAll()
		for _, name := range []string{"before-recovery-1", "before-recovery-1.tmp"} {
			c.must(os.MkdirAll(filepath.Join(c.dirs["s3"], name, "snapshots"), 0o700))
		}
		before, err := Inspect(c.dirs["s3"])
		c.must(err)
		if before.Snapshot == 0 {
			c.Error("there is no snapshot, so this shows nothing of one")
		}
		// Two of the three are left.
		done, err := Recover(c.dirs["s3"], RecoverOptions{ID: "s3", Members: []Member{{ID: "s1"}, {ID: "s3"}}, Time: time.Now()})
		c.must(err)
		c.checkBackup(done.Backup, before)
		if len(done.Members) != 2 || done.Members[0].Address != c.address("s1") || !done.Members[0].Voter {
			c.Errorf("%+v", done)
		}
		c.dirs["s1"] = c.TempDir() // it joins anew
		c.start("s1")
		c.start("s3")
		c.leaderSeenBy("s3")
		c.sees("s1", c.writeVia("s3", "after").Index, "web0", "web59", "after")
	})
}

// A cluster that some server of the first version is in has no count.
func TestRecoverOldCluster(t *testing.T) {
	db := state.New()
	db.Apply(1, initCluster())
	token, server := admission("s2", "10.0.0.2:7300")
	db.Apply(2, token)
	db.Apply(3, server)
	d := &offline{machine: &machine{db: db, logger: slog.New(slog.DiscardHandler)}, contents: Contents{LastIndex: 3}}
	entries, err := d.entries(Recovered{Members: []Member{{ID: "s2", Address: "10.0.0.2:7300"}}, Recovery: 1}, 7, time.Now())
	if err != nil || len(entries) != 2 || entries[1].Index != 5 || entries[1].Type != raft.LogConfiguration {
		t.Fatalf("%v %v", entries, err)
	}
	if txn := db.Read(); len(txn.Servers(nil)) != 1 || txn.Server(nil, "s2") == nil || txn.Cluster(nil).Recovery != 0 {
		t.Errorf("servers %v of %v", txn.Servers(nil), txn.Cluster(nil))
	}
}

func TestRecoverIsRefused(t *testing.T) {
	bubble(t, 1, Timing{}, func(c *cluster) {
		f := func(dir string, o RecoverOptions, want string) {
			c.Helper()
			if _, err := Recover(dir, o); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
				c.Errorf("%v, want %q", err, want)
			}
		}
		f(c.dirs["s1"], RecoverOptions{ID: "s1"}, "another meshd server")
		c.stop("s1")
		f(c.dirs["s1"], RecoverOptions{ID: "s9"}, `no server "s9"`)
		f(c.dirs["s1"], RecoverOptions{ID: "s9", Members: []Member{{ID: "s1"}}}, "must be one of those that are left")
		f(c.TempDir(), RecoverOptions{ID: "s1"}, "no server has kept its state here")
		empty := c.TempDir()
		log, err := raftlog.Open(raftlog.Options{Path: filepath.Join(empty, logFile), NoSync: true})
		c.must(err)
		c.must(log.Close())
		f(empty, RecoverOptions{ID: "s1"}, "had not joined any")
		if _, err := Inspect(c.TempDir()); err == nil {
			c.Error("an empty directory was inspected")
		}
		entries, err := filepath.Glob(filepath.Join(c.dirs["s1"], "before-*"))
		c.must(err)
		if len(entries) != 0 {
			c.Errorf("a refused recovery left %q", entries)
		}
	})
}

func TestCheckSpace(t *testing.T) {
	if err := checkSpace(t.TempDir(), 1<<60); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Error(err)
	}
	if err := checkSpace(t.TempDir(), 1); err != nil {
		t.Error(err)
	}
}
