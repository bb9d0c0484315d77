package slice

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func sample(version uint64) *Slice {
	s, err := Empty().Merge(&apiv1.SliceUpdate{
		Version: version, Snapshot: true, Roots: [][]byte{{1, 2}},
		Services: []*apiv1.ServiceSlice{service("a", 1)}, Nodes: []*apiv1.Node{node("h1", "10.0.0.1")},
	})
	if err != nil {
		panic(err)
	}
	return s
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "slice.pb")
		c := NewCache(path, slog.New(slog.DiscardHandler))
		if s, err := Load(path); s != nil || err != nil {
			t.Fatalf("before anything was saved: %v, %v", s, err)
		}
		check := func(want *Slice) {
			t.Helper()
			got, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.Snapshot(), got.Snapshot(), protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		}
		c.Save(sample(1))
		c.Save(sample(2))
		time.Sleep(saveDelay)
		synctest.Wait()
		check(sample(2))
		c.Save(sample(3))
		c.Close()
		check(sample(3))
		if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
	})
}

func TestCacheReportsFailure(t *testing.T) {
	var log strings.Builder
	c := NewCache(filepath.Join(t.TempDir(), "missing", "slice.pb"), slog.New(slog.NewTextHandler(&log, nil)))
	c.Save(sample(1))
	c.Close()
	if !strings.Contains(log.String(), "not kept on disk") {
		t.Errorf("log: %s", log.String())
	}
}

func TestLoadDamaged(t *testing.T) {
	good, err := encode(sample(1))
	if err != nil {
		t.Fatal(err)
	}
	f := func(name string, b []byte) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "slice.pb")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Load(path); err == nil || s != nil {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	flipped := append([]byte{}, good...)
	flipped[len(flipped)-1] ^= 1
	f("empty", nil)
	f("cut", good[:len(good)-1])
	f("cut in the checksum", good[:len(header)+3])
	f("one bit", flipped)
	f("another version", append([]byte("meshd slice 9\n"), good[len(header):]...))
}

func FuzzDecode(f *testing.F) {
	good, err := encode(sample(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(header))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decode(b); (s == nil) == (err == nil) {
			t.Errorf("slice %v and error %v", s, err)
		}
	})
}

func TestSaveNowIsOnDiskAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slice.pb")
	c := NewCache(path, slog.New(slog.DiscardHandler))
	defer c.Close()
	c.SaveNow(&Slice{Version: 7})
	s, err := Load(path)
	if err != nil || s.Version != 7 {
		t.Errorf("on disk is %v, error %v", s, err)
	}
}
