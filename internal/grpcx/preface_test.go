package grpcx

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// forked runs f beside the fork of a socket on which gRPC is served.
func forked(t *testing.T, f func(t *testing.T, w *world, fork *Fork)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, err := w.s1.Listen(t.Context(), "unix", "/run/server.sock")
		must(t, err)
		fork := NewFork(l, quiet())
		s := serve(fork.GRPC())
		defer s.Stop()
		defer fork.Close()
		f(t, w, fork)
	})
}

func TestForkPartsByPreface(t *testing.T) {
	forked(t, func(t *testing.T, w *world, fork *Fork) {
		dial := func() net.Conn {
			c, err := w.s1.DialContext(t.Context(), "unix", "/run/server.sock")
			must(t, err)
			return c
		}
		silent := dial() // holds up nobody
		defer silent.Close()
		dial().Close() // nor does who only looks

		c, err := DialUnix(w.s1.As(1007), "/run/server.sock")
		must(t, err)
		defer c.Close()
		if got, err := whoAmI(t.Context(), c); got != "user 7" || err != nil {
			t.Errorf("%q, %v", got, err)
		}

		h := dial()
		defer h.Close()
		_, err = h.Write([]byte("PR"))
		must(t, err)
		time.Sleep(time.Second)
		_, err = h.Write([]byte("OPFIND /"))
		must(t, err)
		s, err := fork.HTTP().Accept()
		must(t, err)
		defer s.Close()
		got := make([]byte, 10)
		if _, err := io.ReadFull(s, got); err != nil || string(got) != "PROPFIND /" {
			t.Errorf("read %q, %v", got, err)
		}
		if uid, ok := PeerUID(WithPeer(t.Context(), s)); uid != 0 || !ok {
			t.Errorf("the peer is user %d, %v", uid, ok)
		}

		time.Sleep(handshakeTimeout)
		if open(silent) {
			t.Error("who says nothing stays for ever")
		}
	})
}

func TestForkCloses(t *testing.T) {
	forked(t, func(t *testing.T, w *world, fork *Fork) {
		silent, err := w.s1.DialContext(t.Context(), "unix", "/run/server.sock")
		must(t, err)
		defer silent.Close()
		synctest.Wait()
		must(t, fork.Close())
		if open(silent) {
			t.Error("a connection outlives the fork")
		}
		if _, err := fork.HTTP().Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accepting: %v", err)
		}
	})
}

// said is a connection on which all has been said.
type said struct {
	net.Conn
	io.Reader
}

func (c said) Read(b []byte) (int, error) { return c.Reader.Read(b) }

// However it comes, the preface of HTTP/2 is told from all else, and nothing of
// what was said is lost.
func FuzzPeek(f *testing.F) {
	for _, seed := range []string{"", "P", "PRI", "PUT / HTTP/1.1\r\n", "GET", preface, preface[:23], preface + "\x00\x00", preface[:22] + "\n\n", "\x00"} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, text string, slow bool) {
		var r io.Reader = strings.NewReader(text)
		if slow {
			r = iotest.OneByteReader(r)
		}
		c, isHTTP2, err := peek(said{nil, r})
		if strings.HasPrefix(preface, text) && text != preface {
			if err == nil {
				t.Fatalf("%q was enough to tell", text)
			}
			return
		}
		must(t, err)
		if isHTTP2 != strings.HasPrefix(text, preface) {
			t.Errorf("%q is HTTP/2: %v", text, isHTTP2)
		}
		if all, err := io.ReadAll(c); err != nil || string(all) != text {
			t.Errorf("of %q came %q, %v", text, all, err)
		}
	})
}
