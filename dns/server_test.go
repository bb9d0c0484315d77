package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/meshd/meshd/dns/zone"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/netx"
)

// start runs a server on a host of an in-memory network.
func start(t *testing.T, in zone.Input) (*Server, netx.Network) {
	t.Helper()
	host := memnet.New().Host("vm1", netip.MustParseAddr("10.0.0.1"))
	return startOn(t, host, in), host
}

func startOn(t *testing.T, network netx.Network, in zone.Input) *Server {
	t.Helper()
	s := New(Config{Network: network, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	s.Swap(zone.Build(in))
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func dial(t *testing.T, network netx.Network, s *Server) net.Conn {
	t.Helper()
	conn, err := network.DialContext(context.Background(), "tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// framed is a message as TCP carries it.
func framed(msg []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
}

func receive(t *testing.T, conn net.Conn) *mdns.Msg {
	t.Helper()
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		t.Fatal(err)
	}
	out := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, out); err != nil {
		t.Fatal(err)
	}
	return proper(t, out)
}

func send(t *testing.T, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

// closed waits for the server's end of a connection.
func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, conn); n != 0 || err != nil && !errors.Is(err, io.EOF) && !isReset(err) {
		t.Errorf("got %d bytes and %v instead of the end", n, err)
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

func TestUDP(t *testing.T) {
	f := func(t *testing.T, network netx.Network) {
		s := startOn(t, network, sampleInput())
		conn, err := network.ListenPacket(context.Background(), "udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		to, err := net.ResolveUDPAddr("udp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		for _, msg := range [][]byte{{1}, raw(1, 0x8000, 1, 0, 0, 0, ordersA), bytes.Repeat([]byte{0}, maxQuery+1), raw(77, 0, 1, 0, 0, 0, ordersA)} {
			if _, err := conn.WriteTo(msg, to); err != nil {
				t.Fatal(err)
			}
		}
		buffer := make([]byte, maxUDP)
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if answer := proper(t, buffer[:n]); answer.Id != 77 || len(answer.Answer) != 1 {
			t.Errorf("got %v", answer)
		}
		s.Stop()
		if got := testutil.ToFloat64(s.metrics.dropped); got != 3 {
			t.Errorf("%v dropped", got)
		}
		if got := testutil.ToFloat64(s.metrics.queries[metricKey(mdns.RcodeSuccess, mdns.TypeA)]); got != 1 {
			t.Errorf("%v answered", got)
		}
	}
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f(t, memnet.New().Host("vm1", netip.MustParseAddr("10.0.0.1")))
		})
	})
	t.Run("system", func(t *testing.T) { f(t, netx.System{}) })
}

// 60: TCP.
func TestTCPByteByByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, network := start(t, sampleInput())
		conn := dial(t, network, s)
		for _, b := range framed(raw(5, 0, 1, 0, 0, 0, ordersA)) {
			send(t, conn, []byte{b})
			synctest.Wait()
		}
		if answer := receive(t, conn); answer.Id != 5 || len(answer.Answer) != 1 {
			t.Errorf("got %v", answer)
		}
	})
}

func TestTCPPipelineAndHalfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, network := start(t, sampleInput())
		conn := dial(t, network, s)
		var all []byte
		for id := range 20 {
			all = append(all, framed(raw(id, 0, 1, 0, 0, 0, ordersA))...)
		}
		send(t, conn, all)
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		for id := range 20 {
			if answer := receive(t, conn); int(answer.Id) != id {
				t.Errorf("answer %d has the id %d", id, answer.Id)
			}
		}
		closed(t, conn)
	})
}

func TestTCPRefusesWhatIsNoQuery(t *testing.T) {
	f := func(what string, b []byte) {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, network := start(t, sampleInput())
				conn := dial(t, network, s)
				send(t, conn, b)
				closed(t, conn)
			})
		})
	}
	f("length 0", []byte{0, 0})
	f("length 11", append([]byte{0, 11}, make([]byte, 11)...))
	f("length 65535", []byte{0xff, 0xff})
	f("an answer", framed(raw(1, 0x8000, 1, 0, 0, 0, ordersA)))
}

func TestTCPIdle(t *testing.T) {
	f := func(what string, b []byte) {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, network := start(t, sampleInput())
				conn := dial(t, network, s)
				began := time.Now()
				send(t, conn, b)
				closed(t, conn)
				if took := time.Since(began); took != idleTimeout {
					t.Errorf("closed after %s", took)
				}
			})
		})
	}
	f("silent", nil)
	f("half a length", []byte{0})
	f("half a query", framed(raw(1, 0, 1, 0, 0, 0, ordersA))[:20])
}

// A client that never reads its answers is cut off, and holds nobody else up.
func TestTCPUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, network := start(t, manyInput(500))
		greedy := dial(t, network, s)
		many := framed(raw(1, 0, 1, 0, 0, 0, "\x04many\x07service\x04mesh\x00\x00\x21\x00\x01"))
		var writing sync.WaitGroup
		writing.Go(func() {
			for range 2000 {
				if _, err := greedy.Write(many); err != nil {
					return
				}
			}
			t.Error("all of it was taken")
		})
		synctest.Wait()
		conn := dial(t, network, s)
		send(t, conn, framed(raw(5, 0, 1, 0, 0, 0, ordersA)))
		if answer := receive(t, conn); answer.Id != 5 {
			t.Errorf("got %v", answer)
		}
		writing.Wait()
	})
}

// Idle clients, however many, keep nobody out.
func TestTCPIdleClientsGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, network := start(t, sampleInput())
		active := dial(t, network, s)
		var idle []net.Conn
		for range maxConnections + 50 {
			idle = append(idle, dial(t, network, s))
			send(t, active, framed(raw(6, 0, 1, 0, 0, 0, ordersA)))
			receive(t, active)
		}
		synctest.Wait()
		for _, conn := range idle[:51] {
			closed(t, conn)
		}
		if got := testutil.ToFloat64(s.metrics.connections); got != maxConnections {
			t.Errorf("%v connections", got)
		}
		send(t, idle[51], framed(raw(5, 0, 1, 0, 0, 0, ordersA)))
		receive(t, idle[51])
	})
}

func TestSwapUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, network := start(t, sampleInput())
		zones := []*zone.Zone{zone.Build(sampleInput()), zone.Build(manyInput(20))}
		var clients sync.WaitGroup
		for range 4 {
			conn := dial(t, network, s)
			clients.Go(func() {
				for range 200 {
					send(t, conn, framed(raw(5, 0, 1, 0, 0, 0, ordersA)))
					if answer := receive(t, conn); len(answer.Answer) != 1 {
						t.Errorf("got %v", answer)
					}
				}
			})
		}
		for i := range 100 {
			s.Swap(zones[i%2])
		}
		clients.Wait()
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, network := start(t, sampleInput())
		conn := dial(t, network, s)
		synctest.Wait()
		s.Stop()
		closed(t, conn)
		s.Stop()
		if _, err := network.DialContext(context.Background(), "tcp", s.Addr().String()); err == nil {
			t.Error("it still listens")
		}
	})
	New(Config{}).Stop()
}

func TestStartFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, network := start(t, sampleInput())
		again := New(Config{Network: network, Listen: s.Addr().String(), Logger: slog.New(slog.DiscardHandler)})
		if err := again.Start(context.Background()); err == nil {
			t.Error("two servers share an address")
		}
		again.Stop()

		twice := New(Config{Network: network, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Metrics: s.config.Metrics})
		if err := twice.Start(context.Background()); err == nil {
			t.Error("two servers share their metrics")
		}
		twice.Stop()
	})
}
