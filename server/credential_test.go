package server

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/meshd/meshd/internal/pki"
)

func TestSealingKeyFromCredential(t *testing.T) {
	dir := mustInit(t)
	m, err := dir.read("")
	if err != nil {
		t.Fatal(err)
	}
	credentials := t.TempDir()
	give := func(key []byte, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(credentials, sealingCredential)
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, key, mode); err != nil {
			t.Fatal(err)
		}
	}
	f := func(what, want string) {
		t.Helper()
		got, err := dir.read(credentials)
		if want == "" && (err != nil || got.sealing != m.sealing) {
			t.Errorf("%s: %v", what, err)
		}
		if want != "" {
			wantError(t, err, want)
		}
	}
	f("no credential", "")
	give(m.sealing[:], 0o440) // as systemd does for a user, by access control list
	f("both", "")
	other := pki.NewSealingKey()
	give(other[:], 0o400)
	f("another key", "is another than that in")
	give([]byte("short"), 0o400)
	f("no key", "has 32 bytes, not 5")
	give(m.sealing[:], 0o400)
	if err := os.Chmod(dir.file(sealingFile), 0o644); err != nil {
		t.Fatal(err)
	}
	f("an open file beside it", "chmod 600")
	if err := os.Remove(dir.file(sealingFile)); err != nil {
		t.Fatal(err)
	}
	f("the credential alone", "")
	if _, err := dir.read(""); err == nil {
		t.Error("a server without a sealing key was read")
	}
}
