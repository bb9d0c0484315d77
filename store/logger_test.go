package store

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestRaftLogger(t *testing.T) {
	var b bytes.Buffer
	handler := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	logger := newRaftLogger(slog.New(handler))
	f := func(log func(), want string) {
		t.Helper()
		b.Reset()
		log()
		if got := strings.TrimSpace(b.String()); got != want {
			t.Errorf("logged %s, want %s", got, want)
		}
	}
	f(func() { logger.Info("hello", "n", 1) }, `level=INFO msg=hello component=raft n=1`)
	f(func() { logger.Warn("w", "s", hclog.Fmt("%d-%s", 1, "x")) }, `level=WARN msg=w component=raft s=1-x`)
	f(func() { logger.With("peer", "s2").Error("e") }, `level=ERROR msg=e component=raft peer=s2`)
	f(func() { logger.Debug("no") }, ``)
	f(func() { logger.Trace("no") }, ``)
	f(func() { logger.Warn(notWorthAWarning) }, ``)
	f(func() { logger.StandardLogger(nil).Print("std") }, `level=INFO msg=std component=raft`)
	if named := logger.Named("a").Named("b"); named.Name() != "a.b" || named.ResetNamed("c").Name() != "c" {
		t.Errorf("named %q", named.Name())
	}
	if args := logger.With("k", "v").With("l", "w").ImpliedArgs(); len(args) != 4 {
		t.Errorf("implied %v", args)
	}
	if logger.IsDebug() || logger.IsTrace() || !logger.IsInfo() || !logger.IsWarn() || !logger.IsError() || logger.GetLevel() != hclog.Info {
		t.Errorf("level %v", logger.GetLevel())
	}
}
