package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/proxy/mtls"
	"github.com/meshd/meshd/proxy/relay"
)

// http2Client calls the service from the first host by HTTP/2.
func (m *mesh) http2Client() *http.Client {
	m.t.Helper()
	transport := &http.Transport{
		Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return m.near().DialContext(ctx, "tcp", m.vip)
		},
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	m.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestHTTP2Callers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("X-Said", fmt.Sprintf("%s %s %s %s", r.Method, r.RequestURI, r.Host, r.Header.Get("Meshd-Client-Id")))
			w.Header().Set("Trailer", "X-After")
			w.Write(body)
			w.Header().Set("X-After", fmt.Sprint(len(body), r.Trailer.Get("X-Sum")))
		})
		c := m.http2Client()
		var running sync.WaitGroup
		for i := range 50 {
			running.Go(func() {
				body := strings.Repeat("x", i*i*100)
				r, _ := http.NewRequest("POST", fmt.Sprintf("http://orders/a/%d?b", i), io.NopCloser(strings.NewReader(body)))
				r.Trailer = http.Header{"X-Sum": {"sum"}}
				r.Header.Set("Meshd-Client-Id", "me")
				resp, err := c.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				want := fmt.Sprintf("POST /a/%d?b orders %s", i, web)
				if err != nil || string(got) != body || resp.Header.Get("X-Said") != want || resp.Trailer.Get("X-After") != fmt.Sprint(len(body), "sum") {
					t.Errorf("%d: %d bytes, %v, %v, %v", i, len(got), resp.Header, resp.Trailer, err)
				}
			})
		}
		running.Wait()
		c.CloseIdleConnections()
		synctest.Wait()
	})
}

func TestHTTP2Refusals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		c := m.http2Client()
		resp, err := c.Get("http://orders/")
		if err != nil || resp.StatusCode != 503 || resp.Header.Get("Meshd-Error") != "app-connect-failed" || resp.ProtoMajor != 2 {
			t.Errorf("%v, %v", resp, err)
		}
		body, _ := io.ReadAll(resp.Body)
		if !strings.Contains(string(body), "does not take connections") {
			t.Errorf("%q", body)
		}
		r, _ := http.NewRequest("GET", "http://orders/", nil)
		r.Header.Set("Content-Type", "application/grpc")
		if resp, err = c.Do(r); err != nil || resp.StatusCode != 200 || resp.Header.Get("Grpc-Status") != "14" || resp.Header.Get("Meshd-Error") != "app-connect-failed" {
			t.Errorf("%v, %v", resp, err)
		}
	})
}

func TestHTTP2CallerThatLeavesEndsItsCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		ended := make(chan error, 1)
		m.serve(m.far(), func(c net.Conn) {
			_, err := io.Copy(io.Discard, c)
			ended <- err
		})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://orders/", nil)
		c := m.http2Client()
		began := time.Now()
		if _, err := c.Do(r); err == nil {
			t.Error("it was answered")
		}
		<-ended
		if d := time.Since(began); d > 4*time.Second {
			t.Errorf("the application sees it after %v", d)
		}
		c.CloseIdleConnections()
	})
}

// TestH2spec checks from outside what RFC 9113 and RFC 7541 ask of servers, with
// h2spec's stricter cases.
func TestH2spec(t *testing.T) {
	if testing.Short() {
		t.Skip("h2spec takes several seconds")
	}
	program := filepath.Join(t.TempDir(), "h2spec")
	build := exec.Command("go", "build", "-o", program, "github.com/summerwind/h2spec/cmd/h2spec")
	build.Dir = "../tools"
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("h2spec cannot be built here: %v\n%s", err, out)
	}
	m := newRealMesh(t, 2)
	m.serveHTTP(m.far(), func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "hello")
	})
	f := func(what, address string, failures ...string) {
		t.Helper()
		host, port, _ := net.SplitHostPort(address)
		out, _ := exec.Command(program, "-h", host, "-p", port, "-o", "5", "--strict").CombinedOutput()
		want := fmt.Sprintf("146 tests, %d passed, 0 skipped, %d failed", 146-len(failures), len(failures))
		for _, w := range append(failures, want) {
			if !bytes.Contains(out, []byte(w)) {
				t.Errorf("%s: no %q in:\n%s", what, w, out)
			}
		}
	}
	// What begins as neither HTTP/2 nor HTTP/1.1 is answered in the latter.
	const preface = "× 2: Sends invalid connection preface"
	f("link", m.linkDoor())
	f("application", m.vip, preface)
	m.grpc()
	f("application of gRPC", m.vip, preface)
}

// linkDoor is an address on which what is sent goes on over a link to the second
// host, as by another agent.
func (m *mesh) linkDoor() string {
	m.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	to := mtls.Destination{ServerName: m.far().inbound.ServerName, Identity: orders, Protocols: []string{mtls.HTTP2}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				link, err := tls.Dial("tcp", m.far().link.String(), mtls.Client(m.ca, m.ca.Certificate(web), to))
				if err != nil {
					m.t.Error(err)
					c.Close()
					return
				}
				relay.Run(c, link, time.Minute, func(int64) {}, func(int64) {})
			})
		}
	})
	m.t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

func TestCallsOfAllConnectionsShareALink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serve(m.far(), forever(ok))
		var running sync.WaitGroup
		for range 20 {
			running.Go(func() { m.want(get, 200, "") })
		}
		running.Wait()
		conns := &m.far().proxy.conns
		conns.mu.Lock()
		defer conns.mu.Unlock()
		if conns.links != 1 {
			t.Errorf("20 calls have %d links", conns.links)
		}
	})
}
