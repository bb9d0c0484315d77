package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/proxy/mtls/mtlstest"
	"github.com/meshd/meshd/proxy/plan"
)

// newLocalProxy is one proxy with an instance on its own host, on a network in
// memory.
func newLocalProxy(t testing.TB) *memnet.Host {
	t.Helper()
	h := memnet.New().Host("a", netip.MustParseAddr("10.0.0.1"))
	p := New(Config{Network: h, Identities: mtlstest.New(), HostIdentity: web, Inbound: "10.0.0.1:7443",
		Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	c := &plan.Cluster{Name: "orders", Service: "orders", Identity: orders, Protocol: plan.HTTP,
		Endpoints: []plan.Endpoint{{Key: "e", ServerName: "orders", Local: true, Weight: 1}}}
	s := &plan.Service{Name: "orders", Protocol: plan.HTTP, Default: plan.Target{Split: []plan.Split{{Cluster: c, Weight: 1}}}}
	p.Apply(&plan.Plan{
		Outbound: []plan.Listener{{Address: netip.MustParseAddrPort("127.128.0.1:80"), Service: s}},
		Inbound:  map[string]*plan.Inbound{"orders": {ServerName: "orders", Service: "orders", Identity: orders, Protocol: plan.HTTP, Address: netip.MustParseAddrPort("127.0.0.1:8080")}},
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		p.Stop(ctx)
	})
	return h
}

// Whatever a caller sends, the application sees nothing but whole requests, or
// the beginning of one and then the end.
func FuzzCaller(f *testing.F) {
	for _, s := range []string{
		get, get + get, "POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello" + get, "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5\nhello\n0\nX: y\n\n",
		"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5\nhello\nzz", "GET / HTTP/1.0\n\n", upgrade + "xyz", "GET / HTTP/1.1\nHost: a\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n" + get,
	} {
		f.Add([]byte(strings.ReplaceAll(s, "\n", "\r\n")))
	}
	h := newLocalProxy(f)
	l, err := h.Listen(f.Context(), "tcp", "127.0.0.1:8080")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	strange := make(chan string, 1)
	go acceptAll(l, func(c net.Conn) {
		var seen bytes.Buffer
		r := bufio.NewReader(io.TeeReader(c, &seen))
		for {
			q, err := http.ReadRequest(r)
			if err == nil {
				_, err = io.Copy(io.Discard, q.Body)
			}
			if err == nil {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				continue
			}
			var network net.Error
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &network) {
				select {
				case strange <- seen.String() + ": " + err.Error():
				default:
				}
			}
			return
		}
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := h.DialContext(t.Context(), "tcp", "127.128.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			c.Write(raw)
			c.(interface{ CloseWrite() error }).CloseWrite()
		}()
		readAnswers(t, c, raw)
		select {
		case s := <-strange:
			t.Fatalf("%q arrives as %s", raw, s)
		default:
		}
	})
}

// Whatever an application answers, the caller sees nothing but whole responses,
// or the beginning of one and then the end.
func FuzzApplication(f *testing.F) {
	for _, s := range []string{
		ok, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\nX: y\n\n", "HTTP/1.0 200 OK\n\nok", "HTTP/1.1 204 No Content\n\n" + ok, "HTTP/1.1 100 Continue\n\n" + ok,
		"HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nok", "HTTP/1.1 101 x\n\n", "HTTP/1.1 200 OK\nContent-Length: 9\n\nok", ok + "HTTP/1.1 200 OK\nContent-Length: 4\n\nevil",
	} {
		f.Add([]byte(strings.ReplaceAll(s, "\n", "\r\n")))
	}
	h := newLocalProxy(f)
	l, err := h.Listen(f.Context(), "tcp", "127.0.0.1:8080")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	answers := make(chan []byte, 1)
	go acceptAll(l, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		select {
		case raw := <-answers:
			c.Write(raw)
		default:
			// A second try, for want of an answer to the first.
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
		}
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := h.DialContext(t.Context(), "tcp", "127.128.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		answers <- raw
		go func() {
			io.WriteString(c, strings.ReplaceAll(get, "\n", "\r\n"))
			c.(interface{ CloseWrite() error }).CloseWrite()
		}()
		readAnswers(t, c, raw)
	})
}

// readAnswers reads all that a caller gets.
func readAnswers(t *testing.T, c net.Conn, raw []byte) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	var seen bytes.Buffer
	r := bufio.NewReader(io.TeeReader(c, &seen))
	for {
		answer, err := http.ReadResponse(r, nil)
		if err == nil && answer.StatusCode == 101 {
			return
		}
		if err == nil {
			_, err = io.Copy(io.Discard, answer.Body)
		}
		var network net.Error
		switch {
		case err == nil:
		case errors.As(err, &network) && network.Timeout():
			t.Fatalf("%q: nothing happens after %q", raw, seen.String())
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
			return
		default:
			t.Fatalf("%q: the caller gets %q: %v", raw, seen.String(), err)
		}
	}
}

func acceptAll(l net.Listener, f func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			f(c)
		}()
	}
}
