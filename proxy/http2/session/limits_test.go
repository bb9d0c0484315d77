package session

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/http2/frame"
	"github.com/meshd/meshd/proxy/http2/hpack"
	"github.com/meshd/meshd/proxy/http2/mux"
)

// attack runs a server in a bubble and gives a connection to it that has begun
// well, and what the server ends with.
func attack(t *testing.T, serve func(*Stream), do func(c net.Conn, ended chan error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := memnet.New().Host("a", netip.MustParseAddr("10.0.0.1"))
		l, err := h.Listen(t.Context(), "tcp", "127.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := h.DialContext(t.Context(), "tcp", "127.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		served, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			ended <- New(Config{Config: mux.DefaultConfig, Conn: served, Serve: serve, Idle: time.Minute}).Run()
		}()
		c.Write(frame.AppendSettingsAck(frame.AppendSettings([]byte(frame.Preface))))
		do(c, ended)
	})
}

func ask(stream uint32, end bool) []byte {
	e := hpack.NewEncoder(0)
	b := e.Begin(frame.BeginHeaders(nil))
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}} {
		b = e.Append(b, []byte(f[0]), []byte(f[1]), false)
	}
	return frame.EndBlock(b, 0, stream, end, 16<<10)
}

// ends checks that the connection ends after some time for a reason of ours.
func ends(t *testing.T, ended chan error, after time.Duration, code frame.Code) {
	t.Helper()
	began := time.Now()
	err := <-ended
	var e *frame.Error
	if took := time.Since(began); !errors.As(err, &e) || e.Code != code || took < after || took > after+lingerTime {
		t.Errorf("%v after %v", err, took)
	}
}

func TestSlowHeaders(t *testing.T) {
	attack(t, echo, func(c net.Conn, ended chan error) {
		begun := ask(1, true)
		done := make(chan bool)
		go func() {
			defer close(done)
			// One byte now and then is no progress.
			for i := range begun {
				if _, err := c.Write(begun[i : i+1]); err != nil {
					return
				}
				time.Sleep(3 * time.Second)
			}
		}()
		ends(t, ended, headTimeout, frame.EnhanceYourCalm)
		c.Close()
		<-done
	})
	attack(t, echo, func(c net.Conn, ended chan error) {
		c.Write(frame.AppendHeader(nil, frame.Header{Type: frame.Headers, Stream: 1}))
		ends(t, ended, headTimeout, frame.EnhanceYourCalm)
	})
}

func TestUnacknowledgedSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		ended := make(chan error, 1)
		go func() { ended <- New(Config{Config: mux.DefaultConfig, Conn: far, Serve: echo}).Run() }()
		go func() {
			for buf := make([]byte, 1000); ; {
				if _, err := near.Read(buf); err != nil {
					return
				}
			}
		}()
		near.Write(frame.AppendSettings([]byte(frame.Preface)))
		ends(t, ended, settingsTimeout, frame.SettingsTimeout)
		near.Close()
	})
}

// A client that asks and never listens is not asked for more.
func TestClientsThatDoNotListen(t *testing.T) {
	attack(t, echo, func(c net.Conn, ended chan error) {
		c.SetWriteDeadline(time.Now().Add(5 * time.Second))
		sent := 0
		for id := uint32(1); ; id += 2 {
			n, err := c.Write(append(ask(id, false), frame.AppendData(nil, id, make([]byte, 10_000), true)...))
			if sent += n; err != nil {
				break
			}
		}
		// What fits is in buffers of the network, and ours.
		if sent > 4<<20 {
			t.Errorf("%d bytes were taken", sent)
		}
		c.Close()
		<-ended
	})
}

// Windows of nothing stop the stream, which is given up when its time is over.
func TestZeroWindow(t *testing.T) {
	var stuck chan error // made in the bubble
	attack(t, func(st *Stream) {
		r := exchange.Response{Status: 200, Header: exchange.Header{Length: -1}}
		st.SendResponse(&r, false, false)
		st.SetWriteDeadline(time.Now().Add(5 * time.Second))
		for {
			st.Gather(make([]byte, 10_000), false)
			if err := st.Flush(); err != nil {
				stuck <- err
				return
			}
		}
	}, func(c net.Conn, ended chan error) {
		stuck = make(chan error, 100)
		c.Write(frame.AppendSettings(nil, frame.Setting{ID: frame.InitialWindowSize, Value: 0}))
		for i := range 100 {
			c.Write(ask(uint32(1+2*i), true))
		}
		for range 100 {
			if err := <-stuck; !isTimeout(err) {
				t.Errorf("the stream ends with %v", err)
			}
		}
		c.Close()
		<-ended
	})
}

func TestIdleConnections(t *testing.T) {
	attack(t, echo, func(c net.Conn, ended chan error) {
		began := time.Now()
		if err := <-ended; !errors.Is(err, ErrIdle) || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		release := make(chan bool)
		s := New(Config{Config: mux.DefaultConfig, Conn: far, Serve: func(st *Stream) { <-release; echo(st) }})
		ended := make(chan error, 1)
		go func() { ended <- s.Run() }()
		config := mux.DefaultConfig
		config.Client = true
		client := New(Config{Config: config, Conn: near})
		clientEnded := make(chan error, 1)
		go func() { clientEnded <- client.Run() }()
		st, _ := client.Open()
		r := exchange.Request{Method: []byte("GET"), Path: []byte("/"), Header: exchange.Header{Length: -1}}
		st.SendRequest(&r, "a", "", true)
		synctest.Wait()
		s.Drain()
		synctest.Wait()
		if st, away := client.Open(); st != nil || !away {
			t.Error("a stream is opened to a server that drains")
		}
		close(release)
		if answer, err := st.Response(); err != nil || answer.Status != 200 {
			t.Errorf("the call that was under way: %v", err)
		}
		if p, err := st.Next(true); err != nil || string(p) != "hello" {
			t.Errorf("its answer: %q, %v", p, err)
		}
		st.Release()
		<-ended
		<-clientEnded
	})
}
