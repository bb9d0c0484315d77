package server

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/meshd/meshd/internal/netx"
)

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

func TestListenSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := listenSocket(t.Context(), netx.System{}, path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket has mode %v, %v", info.Mode(), err)
	}
	_, err = listenSocket(t.Context(), netx.System{}, path)
	wantError(t, err, "another meshd listens on it")
	// What a killed server leaves behind.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if l, err = listenSocket(t.Context(), netx.System{}, path); err != nil {
		t.Fatal(err)
	}
	l.Close()

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = listenSocket(t.Context(), netx.System{}, file)
	wantError(t, err, "opening the socket")
	if b, err := os.ReadFile(file); err != nil || string(b) != "mine" {
		t.Errorf("a file in the socket's place was harmed: %q, %v", b, err)
	}
}
