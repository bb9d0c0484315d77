package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what is said now to testdata")

// golden compares what decode says of each file of testdata/DIR with the .txt
// beside it. The same input must be refused without a panic in every dialect.
func golden(t *testing.T, dir string, decode func(file string, data []byte) error) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got := "taken\n"
		if err := decode(filepath.Base(file), data); err != nil {
			got = err.Error() + "\n"
		}
		compareGolden(t, strings.TrimSuffix(file, ".yaml")+".txt", got)
	}
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got\n%s", file, diff)
	}
}

func TestRefusedResources(t *testing.T) {
	golden(t, "resources", func(file string, data []byte) error {
		_, err := DecodeResources(file, data)
		return err
	})
}

func TestRefusedDeclarations(t *testing.T) {
	golden(t, "declarations", func(file string, data []byte) error {
		_, err := DecodeDeclaration(file, data)
		return err
	})
}

func TestRefusedAgents(t *testing.T) {
	golden(t, "agent", func(file string, data []byte) error {
		a := DefaultAgent()
		return decodeSettings(file, data, a.settings())
	})
}
