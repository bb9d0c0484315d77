package caller

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const host = "spiffe://mesh.example/host/h1"

func newResolver(t testing.TB) *Resolver {
	t.Helper()
	r, err := New(Config{HostIdentity: host, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Skipf("this machine cannot tell callers apart: %v", err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// pair gives the two ends of a connection over network, accepted one first.
func pair(t testing.TB, network, address string) (accepted, dialled net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("cannot listen on %s: %v", address, err)
	}
	defer l.Close()
	if dialled, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if accepted, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close(); dialled.Close() })
	return accepted, dialled
}

func TestIdentifyByUser(t *testing.T) {
	r := newResolver(t)
	const service = "spiffe://mesh.example/svc/web"
	f := func(network, address string) {
		t.Helper()
		accepted, _ := pair(t, network, address)
		r.SetTable(&Table{Users: map[uint32]string{uint32(os.Getuid()): service}})
		if got := r.Identify(accepted); got != service {
			t.Errorf("over %s: got %s, want %s", address, got, service)
		}
		r.SetTable(&Table{Users: map[uint32]string{12345678: service}})
		if got := r.Identify(accepted); got != host {
			t.Errorf("over %s, another user: got %s, want %s", address, got, host)
		}
	}
	f("tcp4", "127.0.0.1:0")
	f("tcp4", "127.128.0.7:0")
	f("tcp", "[::1]:0")
	f("tcp", ":0") // accepted by an IPv6 socket, from an IPv4 address
}

func TestIdentifyIPv4MappedCaller(t *testing.T) {
	r := newResolver(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no IPv6: %v", err)
	}
	defer unix.Close(fd)
	to := netip.MustParseAddrPort(l.Addr().String())
	mapped := netip.AddrFrom16(to.Addr().As16())
	if err := unix.Connect(fd, &unix.SockaddrInet6{Addr: mapped.As16(), Port: int(to.Port())}); err != nil {
		t.Skipf("no IPv4-mapped addresses: %v", err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := r.lookup(c)
	if err != nil || s.uid != uint32(os.Getuid()) {
		t.Errorf("lookup = %+v, %v", s, err)
	}
}

// Whoever closed before the look-up is unknown: not root, whose uid the kernel
// then reports, and not the host, as which a service could act by not waiting
// for the answer. Who only ended what it says is still there.
func TestIdentifyClosedCaller(t *testing.T) {
	r := newResolver(t)
	r.SetTable(&Table{Users: map[uint32]string{0: "spiffe://mesh.example/svc/root", uint32(os.Getuid()): "spiffe://mesh.example/svc/web"}})
	f := func(name, want string, end func(*net.TCPConn)) {
		t.Helper()
		accepted, dialled := pair(t, "tcp4", "127.0.0.1:0")
		end(dialled.(*net.TCPConn))
		io.ReadAll(accepted)
		if got := r.Identify(accepted); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	f("closed", "", func(c *net.TCPConn) { c.Close() })
	f("reset", "", func(c *net.TCPConn) { c.SetLinger(0); c.Close() })
	f("half closed", "spiffe://mesh.example/svc/web", func(c *net.TCPConn) { c.CloseWrite() })
}

// A listener that has taken over the port of a caller must not speak for it.
func TestIdentifyListenerFallback(t *testing.T) {
	r := newResolver(t)
	accepted, dialled := pair(t, "tcp4", "127.0.0.1:0")
	dialled.(*net.TCPConn).SetLinger(0)
	address := dialled.LocalAddr().String()
	dialled.Close()
	l, err := net.Listen("tcp4", address)
	if err != nil {
		t.Skipf("the caller's port is taken: %v", err)
	}
	defer l.Close()
	if s, err := r.lookup(accepted); err == nil {
		t.Errorf("lookup found %+v", s)
	}
}

func TestIdentifyOtherConnections(t *testing.T) {
	r := newResolver(t)
	r.SetTable(&Table{Users: map[uint32]string{uint32(os.Getuid()): "spiffe://mesh.example/svc/web"}})
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if got := r.Identify(a); got != "" {
		t.Errorf("got %s, want nobody", got)
	}
	accepted, _ := pair(t, "tcp4", "127.0.0.1:0")
	r.Close()
	if got := r.Identify(accepted); got != "" {
		t.Errorf("after Close: got %s, want nobody", got)
	}
}

// TestIdentifyByUnit calls from a process in a control group named like a unit.
func TestIdentifyByUnit(t *testing.T) {
	if address := os.Getenv("MESHD_TEST_DIAL"); address != "" {
		dialAndWait(address)
		return
	}
	r := newResolver(t)
	const service = "spiffe://mesh.example/svc/web"
	r.SetTable(&Table{Units: map[string]string{"web.service": service, "shop.slice": service}})
	f := func(group, want string) {
		t.Helper()
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		startInGroup(t, r.units.root, group, l.Addr().String())
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := r.Identify(c); got != want {
			t.Errorf("in %s: got %s, want %s", group, got, want)
		}
	}
	f("web.service", service)
	f("web.service/worker", service)
	f("user@1000.service/web.service", host)
	f("shop.slice/any.service", service)
	f("other.slice", host)
}

func dialAndWait(address string) {
	if _, err := net.Dial("tcp", address); err != nil {
		panic(err)
	}
	io.ReadAll(os.Stdin)
}

// startInGroup runs this test binary again, in a control group of its own.
func startInGroup(t *testing.T, root, group, address string) {
	t.Helper()
	top := filepath.Join(root, "meshd-test-"+filepath.Base(t.TempDir())+"-"+address)
	dir := filepath.Join(top, group)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Skipf("control groups cannot be made here: %v", err)
	}
	t.Cleanup(func() {
		for ; dir != root; dir = filepath.Dir(dir) {
			os.Remove(dir)
		}
	})
	fd, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	cmd := exec.CommandContext(context.Background(), os.Args[0], "-test.run=^TestIdentifyByUnit$")
	cmd.Env = append(os.Environ(), "MESHD_TEST_DIAL="+address, "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("processes cannot be started in a control group here: %v", err)
	}
	t.Cleanup(func() { stdin.Close(); cmd.Wait() })
}

func TestListener(t *testing.T) {
	r := newResolver(t)
	f := func(network, address string, found, exposed bool) {
		t.Helper()
		l, err := net.Listen(network, address)
		if err != nil {
			t.Skipf("cannot listen on %s: %v", address, err)
		}
		defer l.Close()
		port := netip.MustParseAddrPort(l.Addr().String()).Port()
		got, ok, err := r.Listener(port)
		if err != nil {
			t.Fatal(err)
		}
		if ok != found || ok && (got.Exposed() != exposed || got.UID != uint32(os.Getuid())) {
			t.Errorf("%s: got %+v, %t", address, got, ok)
		}
	}
	f("tcp4", "127.0.0.1:0", true, false)
	f("tcp4", "0.0.0.0:0", true, true)
	f("tcp", "[::]:0", true, true)
	f("tcp6", "[::]:0", false, false) // IPv6 only
	f("tcp4", "127.128.0.1:0", false, false)
	if _, err := r.ListenerUnit(1); err != nil {
		t.Errorf("nobody listens: %v", err)
	}
}

func BenchmarkIdentify(b *testing.B) {
	r := newResolver(b)
	r.SetTable(&Table{Users: map[uint32]string{uint32(os.Getuid()): "spiffe://mesh.example/svc/web"}})
	accepted, _ := pair(b, "tcp4", "127.0.0.1:0")
	b.ReportAllocs()
	for b.Loop() {
		if r.Identify(accepted) == host {
			b.Fatal("caller not recognised")
		}
	}
}
