package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestJournalLinesCarryPriority(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "1:2")
	var out bytes.Buffer
	l := NewLogger(&out, slog.LevelDebug, Auto)
	l.Debug("a")
	l.Info("b", "k", 1)
	l.With("x", "y").Warn("c")
	l.WithGroup("g").Error("d", "k", 2)
	want := `<7>{"level":"DEBUG","msg":"a"}
<6>{"level":"INFO","msg":"b","k":1}
<4>{"level":"WARN","msg":"c","x":"y"}
<3>{"level":"ERROR","msg":"d","g":{"k":2}}
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestFormats(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "")
	f := func(format Format, prefix string) {
		t.Helper()
		var out bytes.Buffer
		NewLogger(&out, slog.LevelInfo, format).Info("hello")
		if !strings.HasPrefix(out.String(), prefix) {
			t.Errorf("%s: %q does not begin with %q", format, out.String(), prefix)
		}
	}
	f(Auto, `{"time":`)
	f(JSON, `{"time":`)
	f(Text, `time=`)
}

func TestParseLevel(t *testing.T) {
	f := func(s string, want slog.Level, ok bool) {
		t.Helper()
		got, err := ParseLevel(s)
		if (err == nil) != ok || ok && got != want {
			t.Errorf("ParseLevel(%q) = %v, %v", s, got, err)
		}
	}
	f("", slog.LevelInfo, true)
	f("debug", slog.LevelDebug, true)
	f("ERROR", slog.LevelError, true)
	f("info+1", 0, false)
	f("loud", 0, false)
}

func TestHandler(t *testing.T) {
	var sick error
	h := Handler(NewRegistry("1.2.3", "abc"), func() error { return sick })
	f := func(host, path string, status int, contains string) {
		t.Helper()
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = host
		h.ServeHTTP(w, r)
		if w.Code != status || !strings.Contains(w.Body.String(), contains) {
			t.Errorf("%s%s: %d %q, want %d with %q", host, path, w.Code, w.Body, status, contains)
		}
	}
	f("127.0.0.1:8500", "/metrics", 200, `meshd_build_info{commit="abc",version="1.2.3"} 1`)
	f("localhost", "/healthz", 200, "ok")
	f("[::1]:8500", "/healthz", 200, "ok")
	f("evil.example", "/metrics", 403, "evil.example")
	f("10.0.0.1", "/metrics", 403, "10.0.0.1")
	f("", "/metrics", 403, "")
	sick = errors.New("no leader")
	f("localhost", "/healthz", 503, "no leader")
	f("localhost", "/other", 404, "")
}
