package telemetry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/internal/memnet"
)

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		drop := func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
		options := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: drop}
		l := Limit(slog.New(slog.NewTextHandler(&out, options)), 2, time.Minute)
		for i := range 5 {
			l.Warn("stranger", "i", i)
		}
		l.With("a", 1).WithGroup("g").Debug("detail", "b", 2)
		time.Sleep(time.Minute)
		l.With("a", 1).Warn("stranger")
		l.Warn("stranger")
		want := `level=WARN msg=stranger i=0
level=WARN msg=stranger i=1
level=DEBUG msg=detail a=1 g.b=2
level=WARN msg=stranger a=1 lines_left_out=3
level=WARN msg=stranger
`
		if out.String() != want {
			t.Errorf("got\n%swant\n%s", out.String(), want)
		}
	})
}

func TestHandlerNamesAndOrigins(t *testing.T) {
	h := Handler(NewRegistry("1.2.3", "abc"), func() error { return nil }, "vm1.corp.example")
	f := func(host, origin string, want int) {
		t.Helper()
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/healthz", nil)
		r.Host = host
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("host %q, origin %q: %d, want %d", host, origin, w.Code, want)
		}
	}
	f("VM1.corp.example:8500", "", 200)
	f("vm2.corp.example", "", 403)
	f("localhost.evil.example", "", 403)
	f("127.0.0.1.evil.example", "", 403)
	f("localhost", "http://localhost:8500", 200)
	f("localhost", "https://evil.example", 403)
	f("localhost", "null", 403)
	f("localhost", "http://%zz", 403)
}

// Stop lets a request finish; what does not in time is cut off.
func TestServeAndStop(t *testing.T) {
	f := func(name string, takes, patience time.Duration, served bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			host := memnet.New().Host("h", netip.MustParseAddr("10.0.0.1"))
			l, err := host.Listen(t.Context(), "tcp", "127.0.0.1:80")
			if err != nil {
				t.Fatal(err)
			}
			s := Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-time.After(takes):
					io.WriteString(w, "done")
				case <-r.Context().Done():
				}
			}), slog.New(slog.DiscardHandler))
			client := &http.Client{Transport: &http.Transport{DialContext: host.DialContext}}
			defer client.CloseIdleConnections()
			got := make(chan string, 1)
			go func() {
				resp, err := client.Get("http://127.0.0.1/")
				if err != nil {
					got <- ""
					return
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				got <- string(body)
			}()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := s.Stop(ctx); err != nil {
				t.Errorf("%s: stopping: %v", name, err)
			}
			if answer := <-got; (answer == "done") != served {
				t.Errorf("%s: got %q", name, answer)
			}
		})
	}
	f("short", time.Second, 5*time.Second, true)
	f("long", time.Minute, time.Second, false)
}
