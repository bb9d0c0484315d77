package memnet

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func listenPacket(t *testing.T, h *Host, address string) net.PacketConn {
	t.Helper()
	c, err := h.ListenPacket(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts()
		server := listenPacket(t, b, ":53")
		client, err := a.DialContext(t.Context(), "udp", "b:53")
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		n.SetLatency(a, b, 20*time.Millisecond)
		start := time.Now()
		mustWrite(t, client, "query")
		buf := make([]byte, 3)
		size, from, err := server.ReadFrom(buf)
		if err != nil || string(buf[:size]) != "que" {
			t.Fatalf("read %q, %v", buf[:size], err)
		}
		if from.String() != client.LocalAddr().String() {
			t.Errorf("from %v, want %v", from, client.LocalAddr())
		}
		if _, err := server.WriteTo([]byte("ok!"), from); err != nil {
			t.Fatal(err)
		}
		mustRead(t, client, "ok!")
		if got := time.Since(start); got != 40*time.Millisecond {
			t.Errorf("round trip took %v", got)
		}
	})
}

func TestDatagramsAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts()
		client, server := listenPacket(t, a, ":1000"), listenPacket(t, b, ":53")
		send := func(s string) {
			t.Helper()
			if _, err := client.WriteTo([]byte(s), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 53}); err != nil {
				t.Error(err)
			}
		}
		n.SetLatency(a, b, time.Second)
		send("cut off on its way")
		n.PartitionOneWay([]*Host{a}, []*Host{b})
		time.Sleep(2 * time.Second)
		send("never left")
		n.Heal()
		send("arrives")
		buf := make([]byte, 100)
		if size, _, err := server.ReadFrom(buf); string(buf[:size]) != "arrives" {
			t.Errorf("read %q, %v", buf[:size], err)
		}
	})
}

func TestDatagramQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := twoHosts()
		client, server := listenPacket(t, a, ":0"), listenPacket(t, b, ":53")
		for range 2 * queued {
			if _, err := client.WriteTo([]byte{1}, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 53}); err != nil {
				t.Fatal(err)
			}
		}
		server.SetReadDeadline(time.Now().Add(time.Second))
		for i := range 2 * queued {
			if _, _, err := server.ReadFrom(make([]byte, 1)); err != nil {
				if i != queued || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("after %d: %v", i, err)
				}
				break
			}
		}
	})
}

func TestDatagramErrors(t *testing.T) {
	_, a, _ := twoHosts()
	c := listenPacket(t, a, "127.0.0.1:53")
	if _, err := a.ListenPacket(t.Context(), "udp", ":53"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening twice: %v", err)
	}
	if _, err := c.WriteTo(make([]byte, maxDatagram+1), c.LocalAddr()); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("too large: %v", err)
	}
	c.Close()
	if _, err := c.WriteTo([]byte{1}, c.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	if _, _, err := c.ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	listenPacket(t, a, ":53")
}
