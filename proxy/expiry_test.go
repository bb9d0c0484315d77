package proxy

import (
	"bufio"
	"crypto/x509"
	"net/url"
	"testing"
	"time"

	"github.com/meshd/meshd/proxy/mtls/mtlstest"
)

// Nothing goes on for a caller whose certificate has ended.
func TestCertificateEndsWhatWasOpened(t *testing.T) {
	const life = 10 * time.Minute
	f := func(what string, open func(m *mesh) *client, use func(c *client)) {
		t.Helper()
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newMesh(t, 2)
				began := time.Now()
				m.ca.Set(web, m.ca.Make(func(c *x509.Certificate) {
					c.URIs, c.NotAfter = []*url.URL{mtlstest.URI(web)}, began.Add(life).Truncate(time.Second)
				}))
				c := open(m)
				for range 19 {
					use(c)
					<-time.After(30 * time.Second)
				}
				if _, err := c.ReadByte(); err == nil || time.Since(began) > life || time.Since(began) < life-2*time.Second {
					t.Errorf("%v after %v", err, time.Since(began))
				}
			})
		})
	}
	hello := func(c *client) { c.send("hello").expect("HELLO") }
	f("TCP", func(m *mesh) *client {
		m.tcp()
		m.serve(m.far(), echoUpper)
		return m.dial()
	}, hello)
	f("websocket", func(m *mesh) *client {
		m.serve(m.far(), shout)
		c := m.dial().send(upgrade)
		c.receive("GET")
		c.expect("EARLY")
		return c
	}, hello)
	f("HTTP", func(m *mesh) *client {
		m.serve(m.far(), forever(ok))
		link, err := m.agent(web, nil)
		if err != nil {
			m.t.Fatal(err)
		}
		return &client{link, bufio.NewReader(link), m.t}
	}, func(c *client) { c.send(get).receive("GET") })
}
