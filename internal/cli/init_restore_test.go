package cli

import (
	"os"
	"path/filepath"
	"testing"
)

// What is wrong with the files is said before anything is done to the host.
func TestInitRestoreChecksItsFiles(t *testing.T) {
	s := startServer(t, "shop")
	t.Chdir(t.TempDir())
	s.run(0, "", "snapshot save mesh.snapshot")
	if err := os.WriteFile("short.key", []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(s.dir, "server", "sealing.key"))
	if err == nil {
		err = os.WriteFile("open.key", key, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.run(2, "", "init --restore mesh.snapshot", "--sealing-key go together")
	s.run(2, "", "init --restore mesh.snapshot --sealing-key short.key --trust-domain a.example", "has its name, trust domain and authority already")
	s.run(1, "", "init --restore nothing --sealing-key short.key", "cannot open the snapshot")
	s.run(1, "", "init --restore short.key --sealing-key short.key", "no snapshot that meshd saved")
	s.run(1, "", "init --restore mesh.snapshot --sealing-key short.key", "32 bytes, not 5", "sealing.key from the data directory")
	s.run(1, "", "init --restore mesh.snapshot --sealing-key open.key", "cannot use the sealing key", "next:")
}
