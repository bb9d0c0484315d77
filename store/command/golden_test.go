package command

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/testing/protocmp"
)

var update = flag.Bool("update", false, "add entries of new types to the corpus; those that are there stay as they are")

// The corpus holds log entries as they have been written to disks: NAME.entry
// the bytes, NAME.txtpb what they mean. Each must be read for good, so nothing
// in it is ever rewritten; a command that gains a field gains a sample too.
func TestGoldenCorpus(t *testing.T) {
	if *update {
		addToCorpus(t)
	}
	entries, err := filepath.Glob("testdata/*.entry")
	if err != nil || len(entries) == 0 {
		t.Fatalf("no corpus (%v): run go test -update", err)
	}
	for _, path := range entries {
		t.Run(filepath.Base(path), func(t *testing.T) { checkGolden(t, path) })
	}
}

func checkGolden(t *testing.T, path string) {
	got, err := Decode(read(t, path))
	if err != nil {
		t.Fatal(err)
	}
	want := TypeOf(got).New()
	if err := prototext.Unmarshal(read(t, textPath(path)), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("-golden +decoded:\n%s", diff)
	}
}

func TestCorpusHasEveryType(t *testing.T) {
	sampled := map[Type]bool{}
	for name, msg := range samples() {
		sampled[TypeOf(msg)] = true
		if _, err := os.Stat(entryPath(name)); err != nil {
			t.Errorf("%v: run go test -update", err)
		}
	}
	for i := range Type(256) {
		if msg := i.New(); msg != nil && !sampled[i] {
			t.Errorf("no sample of %s", Name(msg))
		}
	}
}

// What is written today is, byte for byte, what the corpus says.
func TestEncodingIsStable(t *testing.T) {
	for name, msg := range samples() {
		entry, err := Encode(msg)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(read(t, entryPath(name)), entry); diff != "" {
			t.Errorf("%s is encoded differently now:\n%s", name, diff)
		}
	}
}

func addToCorpus(t *testing.T) {
	for name, msg := range samples() {
		path := entryPath(name)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		entry, err := Encode(msg)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, entry)
		write(t, textPath(path), []byte(prototext.MarshalOptions{Multiline: true}.Format(msg)))
	}
}

func entryPath(sample string) string {
	return filepath.Join("testdata", sample+".entry")
}

func textPath(entry string) string {
	return entry[:len(entry)-len(".entry")] + ".txtpb"
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
