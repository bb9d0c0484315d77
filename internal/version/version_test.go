package version

import (
	"runtime/debug"
	"testing"
)

func TestString(t *testing.T) {
	f := func(in Info, want string) {
		t.Helper()
		if got := in.String(); got != want {
			t.Errorf("%+v: got %q, want %q", in, got, want)
		}
	}
	f(Info{Version: "dev", Go: "go1.26", Platform: "linux/amd64"}, "meshd dev, go1.26, linux/amd64")
	f(Info{Version: "1.2.3", Commit: "0123456789abcdef", Date: "2026-01-02T03:04:05Z", Go: "go1.26", Platform: "linux/arm64"},
		"meshd 1.2.3 (commit 0123456789ab, 2026-01-02T03:04:05Z), go1.26, linux/arm64")
}

func TestLinkerWinsOverBuildInfo(t *testing.T) {
	settings := []debug.BuildSetting{{Key: "vcs.revision", Value: "recorded"}, {Key: "vcs.time", Value: "then"}}
	info := Info{Commit: "linked"}
	info.fill(settings)
	if info.Commit != "linked" || info.Date != "then" {
		t.Errorf("got commit %q of %q", info.Commit, info.Date)
	}
}

func TestGetIsNeverEmpty(t *testing.T) {
	info := Get()
	if info.Version == "" || info.Go == "" || info.Platform == "" || Version() != info.Version {
		t.Errorf("incomplete: %+v", info)
	}
}
