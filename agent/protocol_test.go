package agent

import (
	"io"
	"net"
	"testing"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func TestFindProtocol(t *testing.T) {
	bubble(t, func(t *testing.T, m *fakeMesh) {
		cfg := m.join()
		a := startAgent(t, cfg)
		defer a.Stop()
		// answer serves one connection, after it has heard something.
		answer := func(port string, text string) {
			l, err := cfg.Network.Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", port))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				defer l.Close()
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				if _, err := c.Read(make([]byte, 1)); err == nil {
					io.WriteString(c, text)
				}
				io.Copy(io.Discard, c)
			}()
		}
		f := func(d *apiv1.Declaration, want apiv1.Protocol) {
			t.Helper()
			got, warning := a.findProtocol(t.Context(), d)
			if got.GetProtocol() != want || (warning != "") != (d.GetName() == "absent") {
				t.Errorf("protocol of %v is %v, want %v; warning %q", d, got.GetProtocol(), want, warning)
			}
		}
		const open = apiv1.Protocol_PROTOCOL_UNSPECIFIED
		answer("1001", "HTTP/1.1 404 Not Found\r\n\r\n")
		f(&apiv1.Declaration{Name: "web", Port: 1001}, apiv1.Protocol_PROTOCOL_HTTP)
		answer("1002", "220 mail ready\r\n")
		f(&apiv1.Declaration{Name: "mail", Port: 1002}, open)
		answer("1003", "") // says nothing
		f(&apiv1.Declaration{Name: "mute", Port: 1003}, open)
		f(&apiv1.Declaration{Name: "absent", Port: 1004}, open)
		answer("1005", "HTTP/1.1 200 OK\r\n\r\n")
		f(&apiv1.Declaration{Name: "set", Port: 1005, Protocol: apiv1.Protocol_PROTOCOL_TCP}, apiv1.Protocol_PROTOCOL_TCP)
		check := &apiv1.CheckSpec{Kind: &apiv1.CheckSpec_Tcp{Tcp: ":"}}
		f(&apiv1.Declaration{Name: "checked", Port: 1005, Checks: []*apiv1.CheckSpec{check}}, open)
		c, err := cfg.Network.DialContext(t.Context(), "tcp", "127.0.0.1:1005") // ends what serves there
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}
