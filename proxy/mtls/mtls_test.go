package mtls_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/proxy/mtls"
	"github.com/meshd/meshd/proxy/mtls/mtlstest"
)

const (
	web    = "spiffe://mesh/svc/web"
	orders = "spiffe://mesh/svc/orders"
)

var hosts = map[string]mtls.Host{
	"p8080.orders.svc.mesh": {Identity: orders, Protocols: []string{"http/1.1"}},
	"p8081.orders.svc.mesh": {Identity: orders, Protocols: []string{"meshd-tcp"}},
	"p1.ghost.svc.mesh":     {Identity: "spiffe://mesh/svc/ghost", Protocols: []string{"http/1.1"}},
}

func lookup(name string) (mtls.Host, bool) { h, ok := hosts[name]; return h, ok }

var destination = mtls.Destination{ServerName: "p8080.orders.svc.mesh", Identity: orders, Protocols: []string{"http/1.1"}}

// pair is a connection, by both its ends.
func pair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	host := memnet.New().Host("vm", netip.MustParseAddr("10.0.0.1"))
	l, err := host.Listen(t.Context(), "tcp", "127.0.0.1:7443")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = host.DialContext(t.Context(), "tcp", "127.0.0.1:7443"); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// shake connects a client to a server and returns what each saw.
func shake(t *testing.T, client, server *tls.Config) (c, s tls.ConnectionState, clientErr, serverErr error) {
	t.Helper()
	near, far := pair(t)
	cc, sc := tls.Client(near, client), tls.Server(far, server)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := sc.HandshakeContext(ctx)
		if err == nil {
			_, err = sc.Write([]byte("x"))
		}
		far.Close()
		done <- err
	}()
	clientErr = cc.HandshakeContext(ctx)
	if clientErr == nil {
		// A refusal of the client's certificate arrives only now.
		_, clientErr = cc.Read(make([]byte, 1))
	}
	near.Close()
	serverErr = <-done
	return cc.ConnectionState(), sc.ConnectionState(), clientErr, serverErr
}

func TestBothSidesAreVerified(t *testing.T) {
	ca := mtlstest.New()
	ca.Issue(web, orders)
	c, s, err1, err2 := shake(t, mtls.Client(ca, ca.Certificate(web), destination), mtls.Server(ca, lookup))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if got := mtls.Peer(s); got != web {
		t.Errorf("the server sees %q", got)
	}
	if got := mtls.Peer(c); got != orders {
		t.Errorf("the client sees %q", got)
	}
	if mtls.Expires(s) != ca.Certificate(web).Leaf.NotAfter {
		t.Error("the server does not know when the client's certificate ends")
	}
	if c.Version != tls.VersionTLS13 || c.NegotiatedProtocol != "http/1.1" || c.DidResume {
		t.Errorf("version %x, protocol %q, resumed %v", c.Version, c.NegotiatedProtocol, c.DidResume)
	}
}

func TestClientRefuses(t *testing.T) {
	ca, other := mtlstest.New(), mtlstest.New()
	ca.Issue(web)
	uri := func(ids ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			for _, id := range ids {
				c.URIs = append(c.URIs, mtlstest.URI(id))
			}
		}
	}
	f := func(what, want string, by *mtlstest.Authority, change func(*x509.Certificate)) {
		t.Helper()
		ca.Set(orders, by.Make(change))
		_, _, err, _ := shake(t, mtls.Client(ca, ca.Certificate(web), destination), mtls.Server(ca, lookup))
		if err == nil || !strings.Contains(err.Error(), want) || !mtls.IsIdentityError(err) {
			t.Errorf("%s: got %v, want %q", what, err, want)
		}
	}
	f("another service", "not spiffe://mesh/svc/orders", ca, uri("spiffe://mesh/svc/billing"))
	f("another authority", "unknown authority", other, uri(orders))
	f("two names", "2 names", ca, uri(orders, web))
	f("no name", "no SPIFFE ID", ca, uri())
	f("a name of another kind", "2 names", ca, func(c *x509.Certificate) {
		uri(orders)(c)
		c.DNSNames = []string{"orders"}
	})
	f("expired", "expired", ca, func(c *x509.Certificate) {
		uri(orders)(c)
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	})
	f("not yet valid", "not yet valid", ca, func(c *x509.Certificate) {
		uri(orders)(c)
		c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	})
	f("for clients only", "not meant for both", ca, func(c *x509.Certificate) {
		uri(orders)(c)
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	f("an authority's", "of an authority", ca, func(c *x509.Certificate) {
		uri(orders)(c)
		c.IsCA, c.BasicConstraintsValid = true, true
	})
	f("an odd spelling", "peer's certificate", ca, uri("spiffe://mesh/svc/orders?x"))
}

func TestServerRefuses(t *testing.T) {
	ca, other := mtlstest.New(), mtlstest.New()
	ca.Issue(orders, web, "spiffe://mesh/server/s1", "spiffe://elsewhere/svc/web")
	other.Issue(web)
	good := func() *tls.Config { return mtls.Client(ca, ca.Certificate(web), destination) }
	f := func(what, want string, client *tls.Config) {
		t.Helper()
		_, _, clientErr, serverErr := shake(t, client, mtls.Server(ca, lookup))
		if serverErr == nil || !strings.Contains(serverErr.Error(), want) || clientErr == nil {
			t.Errorf("%s: the server says %v, want %q; the client %v", what, serverErr, want, clientErr)
		}
	}
	f("another authority", "unknown authority", mtls.Client(ca, other.Certificate(web), destination))
	f("a server of the control plane", "neither a service nor a host", mtls.Client(ca, ca.Certificate("spiffe://mesh/server/s1"), destination))
	f("another trust domain", "not of trust domain mesh", mtls.Client(ca, ca.Certificate("spiffe://elsewhere/svc/web"), destination))
	unknown := good()
	unknown.ServerName = "p9.nothing.svc.mesh"
	f("an unknown name", "no instance", unknown)
	ghost := good()
	ghost.ServerName = "p1.ghost.svc.mesh"
	f("a service without certificate", "no certificate", ghost)
	bare := good()
	bare.Certificates = nil
	f("no certificate", "certificate", bare)
	old := good()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	f("TLS 1.2", "version", old)
	mute := good()
	mute.NextProtos, mute.VerifyConnection = nil, nil
	f("no protocol", "speaks", mute)
	wrong := good()
	wrong.NextProtos = []string{"h2"}
	f("another protocol", "protocol", wrong)
	usage := ca.Make(func(c *x509.Certificate) {
		c.URIs = []*url.URL{mtlstest.URI(web)}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	f("a server's certificate", "not meant for both", mtls.Client(ca, usage, destination))
}

func TestNothingIsTrustedWithoutRoots(t *testing.T) {
	ca := mtlstest.New()
	ca.Issue(web, orders)
	blind := blindSource{ca}
	_, _, err, _ := shake(t, mtls.Client(blind, ca.Certificate(web), destination), mtls.Server(ca, lookup))
	if err == nil || !strings.Contains(err.Error(), "no trust anchors") {
		t.Errorf("the client says %v", err)
	}
	_, _, _, err = shake(t, mtls.Client(ca, ca.Certificate(web), destination), mtls.Server(blind, lookup))
	if err == nil || !strings.Contains(err.Error(), "no trust anchors") {
		t.Errorf("the server says %v", err)
	}
}

type blindSource struct{ mtls.Source }

func (blindSource) Roots() *x509.CertPool { return nil }

func TestSessionsAreNotResumed(t *testing.T) {
	ca := mtlstest.New()
	ca.Issue(web, orders)
	client := mtls.Client(ca, ca.Certificate(web), destination)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	for range 2 {
		c, _, err1, err2 := shake(t, client, mtls.Server(ca, lookup))
		if err1 != nil || err2 != nil || c.DidResume {
			t.Fatal(err1, err2, c.DidResume)
		}
	}
}
