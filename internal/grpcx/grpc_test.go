package grpcx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/internal/pki"
)

// running runs f beside a gRPC server on s1:7300, which ends before the bubble.
func running(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, grpcs, _ := w.mux(w.server())
		m.Start()
		s := serve(grpcs)
		defer m.Close()
		defer s.Stop()
		f(t, w)
	})
}

func TestPeerIdentity(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		f := func(as TLS, want string) {
			t.Helper()
			c, err := Dial(w.vm1, "s1:7300", as)
			must(t, err)
			defer c.Close()
			if got, err := whoAmI(t.Context(), c); got != want || err != nil {
				t.Errorf("the server sees %q, %v, want %q", got, err, want)
			}
		}
		f(w.agent(), "host/vm1")
		f(w.server(), "server/s1")
		f(w.as(mesh.ServiceIdentity(domain, "web")), "web")
		f(w.nobody(), "nobody")
	})
}

func TestClientCertificatesAreVerified(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		stranger := newWorld(t).agent()
		stranger.Roots = w.roots
		c, err := Dial(w.vm1, "s1:7300", stranger)
		must(t, err)
		defer c.Close()
		if got, err := whoAmI(t.Context(), c); status.Code(err) != codes.Unavailable {
			t.Errorf("a certificate of another mesh: %q, %v", got, err)
		}
	})
}

func TestDialVerifiesTheServer(t *testing.T) {
	f := func(name string, shows func(w *world) TLS, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			m, grpcs, _ := w.mux(shows(w))
			m.Start()
			s := serve(grpcs)
			defer m.Close()
			defer s.Stop()
			c, err := Dial(w.vm1, "s1:7300", w.agent())
			must(t, err)
			defer c.Close()
			if got, err := whoAmI(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q, %v, want %q", name, got, err, want)
			}
		})
	}
	f("a host", func(w *world) TLS { return w.agent() }, "no server")
	f("a service", func(w *world) TLS { return w.as(mesh.ServiceIdentity(domain, "s1")) }, "no server")
	f("another mesh", func(*world) TLS { return newWorld(t).server() }, "unknown authority")
	f("no certificate", func(w *world) TLS { return w.nobody() }, "internal error")
}

func TestDialPinned(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		f := func(pinOf *x509.Certificate, domain, want string) {
			t.Helper()
			c, err := DialPinned(w.vm1, "s1:7300", domain, pki.Pin(pinOf))
			must(t, err)
			defer c.Close()
			got, err := whoAmI(t.Context(), c)
			if want == "" && (got != "nobody" || err != nil) {
				t.Errorf("%q, %v", got, err)
			}
			if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		}
		root, err := x509.ParseCertificate(w.issuer.Above()[1])
		must(t, err)
		f(root, domain, "")
		f(w.issuer.Issuing, domain, "is no root")
		f(root, "other.example", "not of trust domain")
	})
}

func TestPeerUID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, err := w.s1.Listen(t.Context(), "unix", "/run/server.sock")
		must(t, err)
		s := serve(l)
		defer s.Stop()
		c, err := DialUnix(w.s1.As(1007), "/run/server.sock")
		must(t, err)
		defer c.Close()
		if got, err := whoAmI(t.Context(), c); got != "user 7" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestPeerUIDOfTheKernel(t *testing.T) {
	l, err := netx.System{}.Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s"))
	must(t, err)
	s := serve(l)
	defer s.Stop()
	c, err := DialUnix(netx.System{}, l.Addr().String())
	must(t, err)
	defer c.Close()
	want := "user " + string(rune('0'+os.Getuid()%10))
	if got, err := whoAmI(t.Context(), c); got != want || err != nil {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// What is neither a unix socket nor went through a Mux tells nobody's identity.
func TestPlainConnectionsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, err := w.s1.Listen(t.Context(), "tcp", ":7300")
		must(t, err)
		s := serve(l)
		defer s.Stop()
		c, err := w.vm1.DialContext(t.Context(), "tcp", "s1:7300")
		must(t, err)
		defer c.Close()
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the server talks to a plain connection")
		}
		if _, ok := PeerIdentity(t.Context()); ok {
			t.Error("there is an identity outside of a call")
		}
	})
}

func TestStreamForAnHour(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		w.net.SetLatency(w.s1, w.vm1, time.Millisecond)
		c, err := Dial(w.vm1, "s1:7300", w.agent())
		must(t, err)
		defer c.Close()
		stream, err := apiv1.NewControlClient(c).Connect(t.Context())
		must(t, err)
		for range 3600 {
			beat(t, stream)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour) // of keepalives only
		beat(t, stream)
	})
}

func beat(t *testing.T, stream apiv1.Control_ConnectClient) {
	t.Helper()
	must(t, stream.Send(&apiv1.AgentMessage{}))
	_, err := stream.Recv()
	must(t, err)
}

// A host that vanishes takes its connections along, at both ends.
func TestKeepaliveSeesThatThePeerVanished(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		c, err := Dial(w.vm1, "s1:7300", w.agent())
		must(t, err)
		defer c.Close()
		stream, err := apiv1.NewControlClient(c).Connect(t.Context())
		must(t, err)
		beat(t, stream)
		w.net.Isolate(w.s1)
		start := time.Now()
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("receiving: %v", err)
		}
		if took := time.Since(start); took > 2*keepaliveTime+keepaliveTimeout {
			t.Errorf("it took %v", took)
		}
		w.net.Heal()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		reply, err := apiv1.NewControlClient(c).Sign(ctx, &apiv1.SignRequest{}, grpc.WaitForReady(true))
		if err != nil || reply.Certificates[0].Error != "host/vm1" {
			t.Errorf("after healing: %v, %v", reply, err)
		}
	})
}

// A connection ends with its certificate, and the next one bears the renewed.
func TestRenewedCertificate(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		cert := w.certificate(mesh.HostIdentity(domain, "old"), time.Hour)
		as := TLS{TrustDomain: domain, Roots: w.roots, Certificate: func() *tls.Certificate { return cert }}
		c, err := Dial(w.vm1, "s1:7300", as)
		must(t, err)
		defer c.Close()
		stream, err := apiv1.NewControlClient(c).Connect(t.Context())
		must(t, err)
		beat(t, stream)
		start := time.Now()
		time.Sleep(time.Minute)
		cert = w.certificate(mesh.HostIdentity(domain, "renewed"), time.Hour)
		if got, err := whoAmI(t.Context(), c); got != "host/old" || err != nil {
			t.Errorf("on the old connection: %q, %v", got, err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || time.Since(start) > time.Hour {
			t.Errorf("stream of an expired certificate: %v after %v", err, time.Since(start))
		}
		if got, err := whoAmI(t.Context(), c); got != "host/renewed" || err != nil {
			t.Errorf("on a new connection: %q, %v", got, err)
		}
	})
}

func TestMessageSize(t *testing.T) {
	running(t, func(t *testing.T, w *world) {
		c, err := Dial(w.vm1, "s1:7300", w.agent())
		must(t, err)
		defer c.Close()
		f := func(size int, want codes.Code) {
			t.Helper()
			req := &apiv1.SignRequest{Requests: []*apiv1.CertificateRequest{{Csr: make([]byte, size)}}}
			if _, err := apiv1.NewControlClient(c).Sign(t.Context(), req); status.Code(err) != want {
				t.Errorf("%d bytes: %v, want %v", size, err, want)
			}
		}
		f(MaxMessage-100, codes.OK)
		f(MaxMessage, codes.ResourceExhausted)
	})
}

// A host that took another's place has its name, not its key.
func TestPeerKeyHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m, grpcs, _ := w.mux(w.server())
		m.Start()
		defer m.Close()
		f := func(as TLS) {
			t.Helper()
			c, err := as.Dial(t.Context(), w.vm1, "s1:7300", GRPC)
			must(t, err)
			defer c.Close()
			s, err := grpcs.Accept()
			must(t, err)
			defer s.Close()
			got, ok := s.(*Conn).KeyHash()
			if as.Certificate == nil {
				if ok {
					t.Error("nobody has a key")
				}
				return
			}
			if want := pki.Pin(as.Certificate().Leaf); !ok || got != want {
				t.Errorf("key %x, %v, want %x", got, ok, want)
			}
		}
		f(w.agent())
		f(w.agent())
		f(w.nobody())
	})
}
