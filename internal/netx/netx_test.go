package netx

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSystemTCPOptions(t *testing.T) {
	client, server := pair(t, "tcp", "127.0.0.1:0")
	f := func(name string, c net.Conn, level, option, want int) {
		t.Helper()
		if got := sockopt(t, c, level, option); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	for _, c := range []net.Conn{client, server} {
		f("SO_KEEPALIVE", c, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		f("TCP_KEEPIDLE", c, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 30)
		f("TCP_KEEPINTVL", c, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 10)
		f("TCP_KEEPCNT", c, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3)
		f("TCP_USER_TIMEOUT", c, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30_000)
		f("SO_PROTOCOL", c, unix.SOL_SOCKET, unix.SO_PROTOCOL, unix.IPPROTO_TCP)
	}
}

func TestSystemUnix(t *testing.T) {
	client, server := pair(t, "unix", filepath.Join(t.TempDir(), "s"))
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestSystemUDP(t *testing.T) {
	c, err := System{}.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteTo([]byte("x"), c.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if n, from, err := c.ReadFrom(make([]byte, 1)); n != 1 || err != nil || from.String() != c.LocalAddr().String() {
		t.Errorf("read %d from %v, %v", n, from, err)
	}
}

func TestSystemEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := (System{}).DialContext(ctx, "tcp", "127.0.0.1:1"); err == nil {
		c.Close()
		t.Error("dialled with an ended context")
	}
}

func pair(t *testing.T, network, address string) (client, server net.Conn) {
	t.Helper()
	l, err := System{}.Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = System{}.DialContext(t.Context(), network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func sockopt(t *testing.T, c net.Conn, level, option int) (v int) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { v, err = unix.GetsockoptInt(int(fd), level, option) }); e != nil {
		t.Fatal(e)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}
