package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/meshd/meshd/store/state"
)

// saved gives a snapshot of a store that has some services.
func (c *cluster) saved(s *Store) ([]byte, SnapshotMeta) {
	c.Helper()
	var b bytes.Buffer
	meta, err := s.SaveSnapshot(c.Context(), &b)
	c.must(err)
	return b.Bytes(), meta
}

func TestSaveAndInspectSnapshot(t *testing.T) {
	bubble(t, 1, Timing{}, func(c *cluster) {
		index := c.writeMany(c.stores["s1"], "web", 30)
		saved, meta := c.saved(c.stores["s1"])
		c.write(c.stores["s1"], "later")
		info, err := InspectSnapshot(bytes.NewReader(saved))
		c.must(err)
		if info.SnapshotMeta != meta {
			c.Errorf("saved %+v, read %+v", meta, info.SnapshotMeta)
		}
		if meta.ClusterID != "c1" || meta.TrustDomain != "test.mesh" || meta.Server != "s1" || meta.Index != index || meta.Term == 0 || meta.Size != int64(len(saved)) {
			c.Errorf("%+v", meta)
		}
		if info.Rows["service"] != 31 || info.Rows["resource"] != 31 || info.Rows["cluster"] != 1 {
			c.Errorf("rows %v", info.Rows)
		}
		ctx, cancel := context.WithCancelCause(c.Context())
		cancel(errors.New("enough"))
		if _, err := c.stores["s1"].SaveSnapshot(ctx, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "enough") {
			c.Errorf("saving until later than wanted: %v", err)
		}
	})
}

// Changes go on while a snapshot is written, however slowly, and are not in it.
func TestSavingHoldsUpNothing(t *testing.T) {
	bubble(t, 1, Timing{}, func(c *cluster) {
		s := c.stores["s1"]
		index := c.writeMany(s, "web", 30)
		in, out := io.Pipe()
		saved := make(chan error, 1)
		go func() {
			_, err := s.SaveSnapshot(c.Context(), out)
			saved <- errors.Join(err, out.Close())
		}()
		first := make([]byte, 1)
		_, err := io.ReadFull(in, first)
		c.must(err)
		c.writeMany(s, "later", 10) // while the writer waits for its reader
		info, err := InspectSnapshot(io.MultiReader(bytes.NewReader(first), in))
		c.must(err)
		c.must(<-saved)
		if info.Index != index {
			c.Errorf("saved at %d, it was at %d", info.Index, index)
		}
	})
}

func TestSaveBeforeThereIsAMesh(t *testing.T) {
	if _, err := writeArchive(&bytes.Buffer{}, state.New().Snapshot(), SnapshotMeta{}); err == nil || !strings.Contains(err.Error(), "no mesh yet") {
		t.Error(err)
	}
}

// Whatever byte is wrong or missing, the snapshot is refused.
func TestDamagedArchiveIsRefused(t *testing.T) {
	saved := smallArchive(t)
	f := func(what string, damaged []byte) {
		t.Helper()
		if _, err := InspectSnapshot(bytes.NewReader(damaged)); err == nil {
			t.Errorf("%s: taken for a snapshot", what)
		}
	}
	for i := range saved {
		damaged := bytes.Clone(saved)
		damaged[i] ^= 0x40
		f(fmt.Sprintf("byte %d", i), damaged)
		f(fmt.Sprintf("cut at %d", i), saved[:i])
	}
	f("something more", append(bytes.Clone(saved), 0))
	if _, err := InspectSnapshot(bytes.NewReader(saved)); err != nil {
		t.Error(err)
	}
}

func smallArchive(t testing.TB) []byte {
	db := state.New()
	if r := db.Apply(1, initCluster()); r.Refusal != 0 {
		t.Fatal(r)
	}
	var b bytes.Buffer
	if _, err := writeArchive(&b, db.Snapshot(), SnapshotMeta{Server: "s1", Version: "1"}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func FuzzInspectSnapshot(f *testing.F) {
	saved := smallArchive(f)
	f.Add(saved)
	f.Add(saved[:20])
	f.Add([]byte(archiveMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := InspectSnapshot(bytes.NewReader(b))
		if err == nil && (info.Size != int64(len(b)) || info.Rows["cluster"] != 1) {
			t.Fatalf("%+v", info)
		}
	})
}
