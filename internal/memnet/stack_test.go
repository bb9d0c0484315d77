package memnet

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The standard library's TLS, HTTP/1.1 and HTTP/2 run over a Net in a bubble,
// idle for an hour, and leave no goroutine behind.
func TestHTTPOverTLS(t *testing.T) {
	f := func(proto string, http2 bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			n, a, b := twoHosts()
			n.SetLatency(a, b, time.Millisecond)
			l, err := b.Listen(t.Context(), "tcp", ":443")
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewUnstartedServer(http.HandlerFunc(echo))
			server.Listener = l
			server.EnableHTTP2 = http2
			server.StartTLS()
			defer server.Close()

			client := server.Client()
			transport := client.Transport.(*http.Transport)
			transport.DialContext = a.DialContext
			transport.TLSClientConfig.ServerName = "example.com"
			defer client.CloseIdleConnections()
			for range 2 {
				call(t, client, proto)
				time.Sleep(time.Hour)
			}
		})
	}
	f("HTTP/1.1", false)
	f("HTTP/2.0", true)
}

func echo(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }

func call(t *testing.T, client *http.Client, proto string) {
	t.Helper()
	want := strings.Repeat("x", 10*window)
	req, err := http.NewRequestWithContext(context.Background(), "POST", "https://b/", strings.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); string(got) != want || err != nil || resp.Proto != proto {
		t.Errorf("got %d bytes by %s, %v", len(got), resp.Proto, err)
	}
}
