package config

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMissingFileMeansDefaults(t *testing.T) {
	server, err := LoadServer(filepath.Join(t.TempDir(), "server.yaml"))
	if err != nil || server != DefaultServer() {
		t.Errorf("%+v %v", server, err)
	}
	agent, err := LoadAgent(filepath.Join(t.TempDir(), "agent.yaml"))
	if err != nil || agent != DefaultAgent() {
		t.Errorf("%+v %v", agent, err)
	}
	if _, err := LoadAgent(t.TempDir()); err == nil {
		t.Error("a directory is taken for a file")
	}
}

func TestDefaultsAreValid(t *testing.T) {
	server, agent := DefaultServer(), DefaultAgent()
	for _, s := range append(server.settings(), agent.settings()...) {
		if v := s.get(); v != "" {
			if err := s.set(v); err != nil {
				t.Errorf("%s: %v", s.key, err)
			}
		}
	}
}

func TestServerRoundTrip(t *testing.T) {
	want := Server{Name: "s1", DataDir: "/srv/a b", Listen: "10.0.0.1:1", Advertise: "s1.example:7300", GossipListen: "[::1]:2", GossipAdvertise: "10.0.0.1:2",
		HTTP: "[::1]:3", Socket: "/run/x", LogLevel: slog.LevelDebug, Backup: Backup{Dir: "/srv/b", Every: 90 * time.Minute, Keep: 3}}
	file := filepath.Join(t.TempDir(), "server.yaml")
	if err := os.WriteFile(file, EncodeServer(want), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadServer(file); err != nil || got != want {
		t.Errorf("%+v %v", got, err)
	}
}

func TestBackupSettings(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "server.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadServer(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gave %v", text, err)
		}
	}
	f("backup: /srv", `"backup" must be a mapping`)
	f("backup: {directory: /srv}", `no setting "directory"`)
	f("backup.dir: /srv", `no setting "backup.dir"`)
	f("backup: {dir: srv}", "not a full path")
	f("backup: {every: daily}", "no duration")
	f("backup: {every: 1s}", "not from 1m0s")
	f("backup: {keep: 0}", "not from 1")
	f("backup: {keep: some}", "no number")
	f("backups: {}", `no setting "backups"`)
}

func TestAnUnknownSettingNamesEachOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "server.yaml")
	if err := os.WriteFile(file, []byte("zzzzzz: 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	var problems Problems
	if _, err := LoadServer(file); !errors.As(err, &problems) || strings.Count(problems[0].Fix, "backup") != 1 {
		t.Errorf("%v, %+v", err, problems)
	}
}

func TestAgentRoundTrip(t *testing.T) {
	want := Agent{Name: "vm1", DataDir: "/srv", Advertise: "fd00::1", Inbound: ":1", DNS: "127.0.0.53:53", HTTP: "127.0.0.1:3", Socket: "/run/x",
		Loopback: netip.MustParsePrefix("127.129.0.0/16"), ServicesDir: "/etc/s", LogLevel: slog.LevelError}
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, EncodeAgent(want), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadAgent(file); err != nil || got != want {
		t.Errorf("%+v %v", got, err)
	}
	if got := string(EncodeAgent(DefaultAgent())); got != "# What is not set here has its default.\n" {
		t.Errorf("defaults are written: %s", got)
	}
}
