package session

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/http2/mux"
)

// serve runs sessions for the connections of a listener until the test ends.
func serve(t *testing.T, l net.Listener, c Config) {
	t.Helper()
	var running sync.WaitGroup
	var mu sync.Mutex
	var sessions []*Session
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c := c
			c.Conn = conn
			s := New(c)
			mu.Lock()
			sessions = append(sessions, s)
			mu.Unlock()
			running.Go(func() { s.Run() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, s := range sessions {
			s.Close()
		}
		mu.Unlock()
		running.Wait()
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// echo answers with what it was sent, trailers too.
func echo(st *Stream) {
	r := exchange.Response{Status: 200}
	r.Length = -1
	if st.Problem != nil {
		r.Status = 400
		st.SendResponse(&r, false, true)
		return
	}
	if st.Ended() {
		r.Length = 5
		st.SendResponse(&r, false, false)
		send(st, []byte("hello"))
		st.End(nil)
		return
	}
	st.SendResponse(&r, false, false)
	for {
		p, err := st.Next(true)
		if err != nil {
			return
		}
		if len(p) == 0 {
			break
		}
		if !send(st, p) {
			return
		}
	}
	st.End(st.Trailers())
}

func send(st *Stream, p []byte) bool {
	for len(p) > 0 {
		p = p[st.Gather(p, false):]
		if st.Flush() != nil {
			return false
		}
	}
	return true
}

// client is net/http's, without TLS.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestBodiesBothWays(t *testing.T) {
	l := listen(t)
	serve(t, l, Config{Config: mux.DefaultConfig, Serve: echo})
	c := client(t)
	url := "http://" + l.Addr().String() + "/"
	var running sync.WaitGroup
	for i := range 30 {
		running.Go(func() {
			body := strings.Repeat(fmt.Sprintf("%05d", i), 1+i*i*400)
			r, err := http.NewRequestWithContext(context.Background(), "POST", url, io.NopCloser(strings.NewReader(body)))
			if err != nil {
				t.Error(err)
				return
			}
			r.Trailer = http.Header{"X-After": []string{fmt.Sprint(i)}}
			resp, err := c.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != body || resp.Trailer.Get("X-After") != fmt.Sprint(i) {
				t.Errorf("%d: %d bytes of %d, trailer %v, %v", i, len(got), len(body), resp.Trailer, err)
			}
		})
	}
	running.Wait()
}
