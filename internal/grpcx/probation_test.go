package grpcx

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// strange has somebody without a certificate call in.
func (w *world) strange(grpcs net.Listener) (client net.Conn, server *Conn) {
	w.t.Helper()
	c, s := w.honest(w.nobody(), w.vm1, grpcs)
	return c, s.(*Conn)
}

// send writes n bytes at one end and tells how many arrive at the other.
func send(t *testing.T, to, from net.Conn, n int) (arrived int) {
	t.Helper()
	go to.Write(make([]byte, n))
	buf := make([]byte, 16<<10)
	from.SetReadDeadline(time.Now().Add(time.Second))
	for {
		n, err := from.Read(buf)
		arrived += n
		if err != nil {
			return arrived
		}
	}
}

func TestStrangersSendLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, grpcs, _ := w.mux(w.server())
		m.Start()
		defer m.Close()
		f := func(trusted bool, n int, cut bool) {
			t.Helper()
			c, s := w.strange(grpcs)
			defer c.Close()
			defer s.Close()
			if trusted {
				s.Trust()
			}
			arrived := send(t, c, s, n)
			if (arrived < n) != cut || cut && arrived > strangerBytes {
				t.Errorf("trusted %v: %d of %d bytes arrived", trusted, arrived, n)
			}
			if open(c) == cut {
				t.Errorf("trusted %v: after %d bytes the connection is open: %v", trusted, n, !cut)
			}
		}
		f(false, strangerBytes, false)
		f(false, strangerBytes+1, true)
		f(true, 10*strangerBytes, false)
	})
}

func TestStrangersDoNotStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, grpcs, _ := w.mux(w.server())
		m.Start()
		defer m.Close()
		stranger, s := w.strange(grpcs)
		defer stranger.Close()
		defer s.Close()
		trusted, s := w.strange(grpcs)
		defer trusted.Close()
		defer s.Close()
		s.Trust()
		time.Sleep(strangerLife - time.Second)
		if !open(stranger) {
			t.Error("a stranger was cut off early")
		}
		time.Sleep(2 * time.Second)
		if open(stranger) {
			t.Error("a stranger stays")
		}
		if !open(trusted) {
			t.Error("who is trusted was cut off")
		}
	})
}

// Who is trusted leaves the gate, so that strangers cannot push it out.
func TestTrustedPeersLeaveTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, grpcs, _ := w.mux(w.server())
		m.Start()
		defer m.Close()
		trusted, s := w.strange(grpcs)
		defer trusted.Close()
		defer s.Close()
		s.Trust()
		w.flood(w.vm1, 2*maxPerSource)
		synctest.Wait()
		if !open(trusted) {
			t.Error("a flood pushed out who is trusted")
		}
	})
}

// Clients that speak several protocols get the one that is listened to first,
// and those of gRPC theirs.
func TestTheMuxPrefersHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, err := w.s1.Listen(t.Context(), "tcp", ":7300")
		must(t, err)
		m := NewMux(l, w.server(), quiet())
		for _, alpn := range []string{HTTP, GRPC, Raft} {
			m.Listen(alpn, Anybody)
		}
		m.Start()
		defer m.Close()
		f := func(want string, offers ...string) {
			t.Helper()
			raw, err := w.vm1.DialContext(t.Context(), "tcp", "s1:7300")
			must(t, err)
			defer raw.Close()
			config := w.nobody().client("")
			config.NextProtos = offers
			c := tls.Client(raw, config)
			must(t, c.Handshake())
			if got := c.ConnectionState().NegotiatedProtocol; got != want {
				t.Errorf("who offers %v gets %q, want %q", offers, got, want)
			}
		}
		f(HTTP, "h2", "http/1.1")
		f(HTTP, "http/1.1")
		f(GRPC, "h2")
		f(Raft, Raft)
	})
}
