package interest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsNotUsedForLongIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New([]string{"always"}, nil)
		f := func(want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, s.Wanted()); diff != "" {
				t.Errorf("wanted (-want +got):\n%s", diff)
			}
		}
		f("always")
		if !s.Use("web") || s.Use("web") {
			t.Error("only the first use is news")
		}
		s.Flag("db").Store(true)
		if !s.Sweep() || s.Sweep() {
			t.Error("only the first sweep has news")
		}
		f("always", "db", "web")
		s.Settle(map[string]Place{"web": {Ports: []uint16{80}, HTTP: true}, "other": {Ports: []uint16{1}}})
		time.Sleep(keep - time.Second)
		s.Use("db")
		time.Sleep(time.Second)
		f("always", "db")
		// Where it was reached is known for longer.
		if diff := cmp.Diff(map[string]Place{"web": {Ports: []uint16{80}, HTTP: true}}, s.Places()); diff != "" {
			t.Errorf("places (-want +got):\n%s", diff)
		}
		time.Sleep(remember)
		s.Settle(nil)
		if got := s.Places(); len(got) != 0 || len(s.records) != 1 {
			t.Errorf("still known are %v and %d services", got, len(s.records))
		}
	})
}

func TestTheLatestUsedAreWantedWhenThereAreTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New([]string{"always"}, nil)
		s.Use("oldest")
		time.Sleep(time.Minute)
		for n := range maxWanted - 1 {
			s.Use(fmt.Sprint("svc-", n))
		}
		wanted := s.Wanted()
		if len(wanted) != maxWanted || slices.Contains(wanted, "oldest") || !slices.Contains(wanted, "always") {
			t.Errorf("%d are wanted", len(wanted))
		}
	})
}

func TestASetIsKeptOnDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "interest.json")
	s := New(nil, nil)
	s.Use("web")
	s.Settle(map[string]Place{"web": {Ports: []uint16{80, 8080}, HTTP: true}})
	if err := s.Save(path); err != nil {
		t.Fatal(err)
	}
	saved, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	again := New(nil, saved)
	if diff := cmp.Diff([]any{s.Wanted(), s.Places()}, []any{again.Wanted(), again.Places()}); diff != "" {
		t.Errorf("after a restart (-before +after):\n%s", diff)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("what did not change was written again")
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil {
		t.Error("a damaged file was read")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"web":{"used":1700000000,"ports":[80],"http":true}}`))
	f.Add([]byte(`{"web":null,"":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := decode(b)
		if err != nil {
			return
		}
		s := New(nil, records)
		s.Sweep()
		s.Wanted()
		s.Settle(nil)
	})
}
