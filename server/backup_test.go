package server_test

import (
	"bytes"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/meshtest"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/server"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/store"
	"github.com/meshd/meshd/store/state"
)

// save takes a snapshot at a server.
func save(t *testing.T, s *meshtest.Server, stale bool) ([]byte, error) {
	t.Helper()
	stream, err := s.Admin().SaveSnapshot(t.Context(), &apiv1.SaveSnapshotRequest{Stale: stale})
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for {
		chunk, err := stream.Recv()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, chunk.Data...)
	}
}

func mustSave(t *testing.T, s *meshtest.Server) []byte {
	t.Helper()
	saved, err := save(t, s, false)
	if err != nil {
		t.Fatalf("saving at %s: %v", s.Name, err)
	}
	return saved
}

func TestASnapshotHasWhatWasAcknowledged(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		leader, follower := m.Leader(), m.Follower()
		apply(t, leader, service("orders"), service("web"))
		info, err := store.InspectSnapshot(bytes.NewReader(mustSave(t, follower)))
		if err != nil || info.Rows["resource"] != 2 || info.Rows["server"] != 3 || info.Server != follower.ID() {
			t.Errorf("%+v, %v", info, err)
		}
		m.Net.Isolate(follower.Host)
		m.WaitFor("the follower to know no leader", func() bool { return !follower.Leads() })
		start := time.Now()
		if _, err := save(t, follower, false); status.Code(err) != codes.Unavailable || time.Since(start) > time.Minute {
			t.Errorf("saving at a server that is cut off gave %v after %v", err, time.Since(start))
		}
		if _, err := save(t, follower, true); err != nil {
			t.Errorf("saving what the server has: %v", err)
		}
	})
}

// What a snapshot holds of the authority's keys is of no use without the sealing
// key.
func TestASnapshotHoldsNoKeyInTheClear(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Servers[0]
		saved := mustSave(t, s)
		sealing, err := pki.ReadSecret(filepath.Join(s.Config().DataDir, "sealing.key"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := pki.ParseSealingKey(sealing)
		if err != nil {
			t.Fatal(err)
		}
		txn := readSnapshot(t, saved)
		authority := txn.Authority(nil)
		if _, err := (ca.Vault{ClusterID: txn.Cluster(nil).Id, Key: key}).Open(authority); err != nil {
			t.Errorf("with the sealing key: %v", err)
		}
		if _, err := (ca.Vault{ClusterID: txn.Cluster(nil).Id, Key: pki.NewSealingKey()}).Open(authority); err == nil {
			t.Error("another key opened the authority")
		}
		secrets := [][]byte{sealing, mustRead(t, s, "gossip.key"), mustRead(t, s, "server.key")}
		for _, purpose := range []string{"root key", "issuing key"} {
			for _, sealed := range [][]byte{authority.SealedRootKey, authority.SealedIssuingKey} {
				if der, err := key.Open(sealed, txn.Cluster(nil).Id, purpose); err == nil {
					secrets = append(secrets, der, privatePart(t, der))
				}
			}
		}
		if len(secrets) != 7 {
			t.Fatalf("%d secrets were found to look for", len(secrets))
		}
		for i, secret := range secrets {
			if bytes.Contains(saved, secret) {
				t.Errorf("secret %d is in the snapshot", i)
			}
		}
	})
}

func privatePart(t *testing.T, der []byte) []byte {
	t.Helper()
	key, err := pki.ParseKey(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func mustRead(t *testing.T, s *meshtest.Server, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Config().DataDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readSnapshot(t *testing.T, saved []byte) *state.Txn {
	t.Helper()
	_, snapshot, err := store.ReadSnapshot(bytes.NewReader(saved))
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Read()
}

// bringBack restores a snapshot at a server.
func bringBack(t *testing.T, s *meshtest.Server, saved []byte, otherMesh bool) error {
	t.Helper()
	stream, err := s.Admin().RestoreSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(saved, 1000) {
		if stream.Send(&apiv1.RestoreSnapshotRequest{Data: part, OtherMesh: otherMesh}) != nil {
			break
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

func TestRestoreBringsBackWhatWasThere(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		agent := m.StartAgent("h1")
		apply(t, m.Leader(), service("orders"), service("web"))
		saved := mustSave(t, m.Leader())
		info, err := store.InspectSnapshot(bytes.NewReader(saved))
		if err != nil {
			t.Fatal(err)
		}

		if _, err := m.Leader().Admin().Delete(t.Context(), &apiv1.DeleteRequest{Kind: "service", Name: "web"}); err != nil {
			t.Fatal(err)
		}
		apply(t, m.Leader(), service("billing"))
		late := m.StartAgent("h3")

		if err := bringBack(t, m.Follower(), saved, false); err != nil {
			t.Fatal(err)
		}
		for _, s := range m.Servers {
			if got := resources(t, s, false); !slices.Equal(got, []string{"orders", "web"}) {
				t.Errorf("%s has %v", s.Name, got)
			}
		}
		members, err := m.Leader().Admin().Members(t.Context(), &apiv1.MembersRequest{})
		if err != nil || len(members.Nodes) != 2 {
			t.Errorf("members are %v, %v", members, err)
		}
		audit, err := m.Leader().Admin().Audit(t.Context(), &apiv1.AuditRequest{Action: "snapshot restore"})
		if err != nil || len(audit.Records) != 1 || !slices.Contains(audit.Records[0].Objects, "snapshot/"+info.SHA256) {
			t.Errorf("the record is %v, %v", audit, err)
		}
		// Agents are told, and go on without a new token.
		apply(t, m.Leader(), service("after"))
		for _, a := range []*meshtest.Agent{agent, late} {
			m.WaitFor(a.Name+" to have the newest configuration", func() bool {
				for _, s := range status1(t, m.Leader()).Agents {
					if s.Node == a.Name && s.Version >= status1(t, m.Leader()).Index-1 {
						return true
					}
				}
				return false
			})
		}
	})
}

func TestRestoreRefuses(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Servers[0]
		apply(t, s, service("orders"))
		saved := mustSave(t, s)
		f := func(what string, saved []byte, want codes.Code, reason string) {
			t.Helper()
			err := bringBack(t, s, saved, false)
			if status.Code(err) != want || !strings.Contains(err.Error(), reason) {
				t.Errorf("%s gave %v", what, err)
			}
		}
		f("a part", saved[:len(saved)-1], codes.InvalidArgument, "cut short")
		f("a damaged one", append(slices.Clone(saved[:500]), append([]byte{saved[500] ^ 1}, saved[501:]...)...), codes.InvalidArgument, "damaged")
		f("nothing", nil, codes.InvalidArgument, "no snapshot")
		if got := resources(t, s, false); !slices.Equal(got, []string{"orders"}) {
			t.Errorf("it has %v", got)
		}
	})
}

func TestScheduledSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t)
		m.Configure = func(c *server.Config) {
			c.Backup = server.Backup{Dir: filepath.Join(c.DataDir, "..", "backup"), Every: 5 * time.Second, Keep: 2}
		}
		m.StartServers(3)
		leader, follower := m.Leader(), m.Follower()
		dir := leader.Config().Backup.Dir
		m.WaitFor("the first", func() bool { return len(files(dir)) == 1 })
		time.Sleep(20 * time.Second)
		made := files(dir)
		if len(made) != 2 || len(files(follower.Config().Backup.Dir)) != 0 {
			t.Errorf("the leader has %v, a follower %v", made, files(follower.Config().Backup.Dir))
		}
		for name := range made {
			checkFile(t, filepath.Join(dir, name))
		}

		// A follower tells how the leader fares.
		backups := status1(t, follower).Backups
		if len(backups) != 3 || !maps.Equal(lasts(backups), map[string]bool{leader.Name: true}) {
			t.Errorf("status has %v", backups)
		}
	})
}

func TestScheduledSnapshotsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t)
		blocked := filepath.Join(t.TempDir(), "backup")
		m.Configure = func(c *server.Config) { c.Backup = server.Backup{Dir: blocked, Every: time.Hour, Keep: 3} }
		if err := os.WriteFile(blocked, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		m.StartServers(1)
		backup := func() *apiv1.BackupStatus { return status1(t, m.Servers[0]).Backups[0] }
		m.WaitFor("the server to say that it fails", func() bool { return strings.Contains(backup().Problem, "not a directory") })
		if err := os.Remove(blocked); err != nil {
			t.Fatal(err)
		}
		time.Sleep(70 * time.Second)
		if b := backup(); b.Problem != "" || b.LastUnix == 0 || b.LastIndex == 0 || len(files(blocked)) != 1 {
			t.Errorf("after the directory was mended: %v, %v", b, files(blocked))
		}
	})
}

func files(dir string) map[string]bool {
	names := map[string]bool{}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names[e.Name()] = true
	}
	return names
}

func checkFile(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v", path, info, err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := store.InspectSnapshot(f); err != nil {
		t.Errorf("%s: %v", path, err)
	}
}

func lasts(backups []*apiv1.BackupStatus) map[string]bool {
	made := map[string]bool{}
	for _, b := range backups {
		if b.LastUnix != 0 && b.Problem == "" {
			made[b.Server] = true
		}
	}
	return made
}

func status1(t *testing.T, s *meshtest.Server) *apiv1.StatusReply {
	t.Helper()
	reply, err := s.Admin().Status(t.Context(), &apiv1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestWhoMaySave(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		host := m.JoinFakeAgent("h1")
		stream, err := apiv1.NewAdminClient(host.Dial(m.Servers[0])).SaveSnapshot(t.Context(), &apiv1.SaveSnapshotRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("a host asked for a snapshot: %v", err)
		}
	})
}
