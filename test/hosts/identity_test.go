package hosts

import (
	"fmt"
	"strings"
	"testing"

	vocabulary "github.com/meshd/meshd/internal/mesh"
)

// calledSide goes round h4's agent and speaks with h1's itself, on port 7443:
// what the called side checks must hold against any caller.
func (m *mesh) calledSide(t *testing.T) {
	status, err := m.status(t.Context(), "h4")
	if err != nil {
		t.Fatal(err)
	}
	i := &intruder{mesh: m, trustDomain: status.Cluster.TrustDomain}
	i.callHTTP(t)
	i.callTCP(t)
	i.callClear(t)
}

// An intruder has what is on h4, and reaches h1.
type intruder struct {
	*mesh
	trustDomain string
}

const certificates = "/var/lib/meshd/agent/certs/"

func (i *intruder) callHTTP(t *testing.T) {
	name := vocabulary.ServerName(i.trustDomain, "orders", 8080)
	call := func(options, request string) string {
		t.Helper()
		out, _ := i.try(t.Context(), "h4", fmt.Sprintf(
			"curl --silent --show-error --insecure --max-time 10 --resolve %[1]s:7443:%[2]s %[3]s --write-out '\\n%%{http_code}' https://%[1]s:7443%[4]s 2>&1",
			name, i.Host("h1").Address, options, request))
		return out
	}
	f := func(certificate, want string) {
		t.Helper()
		got := call("--cert "+certificates+certificate+".pem", "/")
		if !strings.HasSuffix(got, "\n"+want) {
			t.Errorf("as %s, h1 said %q, want status %s", certificate, got, want)
		}
		if served := strings.Contains(got, "orders version"); served != (want == "200") {
			t.Errorf("as %s, the application's answer was among %q", certificate, got)
		}
	}
	f("svc-web", "200") // so that a refusal of others means them
	f("svc-batch", "403")
	f("host-h4", "403")

	// By HTTP/2 curl speaks first, and may not get to read the alert.
	if got := call("--http1.1", "/"); !strings.HasSuffix(got, "\n000") || !strings.Contains(got, "certificate required") {
		t.Errorf("without a certificate, h1 said %q", got)
	}
	i.run(t, "h4", "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=web -days 1 "+
		"-addext 'subjectAltName=URI:spiffe://"+i.trustDomain+"/svc/web' -keyout /root/own.key -out /root/own.pem 2>/dev/null")
	if got := call("--cert /root/own.pem --key /root/own.key", "/"); !strings.HasSuffix(got, "\n000") || strings.Contains(got, "orders version") {
		t.Errorf("with a certificate of its own making, h1 said %q", got)
	}
}

// tcpLink prints the first that comes over a link of another's making.
const tcpLink = `
import socket, ssl, sys
address, name, certificate = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(certificate)
context.set_alpn_protocols(['meshd-tcp'])
with context.wrap_socket(socket.create_connection((address, 7443), 10), server_hostname=name) as link:
    link.settimeout(3)
    said = b''
    try:
        while b'\n' not in said and (more := link.recv(4096)):
            said += more
    except OSError:
        pass
    print(said)
`

func (i *intruder) callTCP(t *testing.T) {
	call := func(certificate string) string {
		t.Helper()
		i.write(t, "h4", "/root/link.py", tcpLink)
		return i.run(t, "h4", fmt.Sprintf("python3 /root/link.py %s %s %s.pem", i.Host("h1").Address,
			vocabulary.ServerName(i.trustDomain, "greeter", 9000), certificates+certificate))
	}
	const hello = "hello from h1"
	if got := call("svc-web"); !strings.Contains(got, hello) {
		t.Errorf("as web, greeter said %s", got)
	}
	if got := call("host-h4"); strings.Contains(got, hello) || !strings.Contains(got, "denied") {
		t.Errorf("the host, whom no policy allows, got %s of greeter", got)
	}
}

func (i *intruder) callClear(t *testing.T) {
	const request = `GET / HTTP/1.1\r\nHost: orders.mesh\r\nConnection: close\r\n\r\n`
	out, _ := i.try(t.Context(), "h4", fmt.Sprintf(
		`exec 3<>/dev/tcp/%s/7443; printf '%s' >&3; timeout 10 cat <&3 | tr -d '\000'`, i.Host("h1").Address, request))
	if strings.Contains(out, "HTTP/") || strings.Contains(out, "orders") {
		t.Errorf("a call in clear was answered by %q", out)
	}
}
