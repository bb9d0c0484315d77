package hosts

import (
	"crypto/tls"
	"strings"
	"testing"
)

// marker is in the request and in the answer of the captured call.
const marker = "PLAINTEXT-MARKER-4711"

// capture records what a caller's host sends and receives, on its link and on
// its loopback interface, while calls carry the marker both ways over links that
// are made meanwhile.
func (m *mesh) capture(t *testing.T) {
	for _, host := range []string{"h1", "h2"} {
		m.write(t, host, "/srv/orders/"+marker, "answer "+marker+"\n")
	}
	link, loopback := m.record(t, "host0"), m.record(t, "lo")
	m.run(t, "h4", "systemctl restart meshd-agent")
	const calls = 20
	out := m.run(t, "h4", "curl --silent --show-error --fail --header 'X-Secret: "+marker+"' 'http://orders.mesh/"+marker+"?[1-20]'")
	if n := strings.Count(out, "answer "+marker); n != calls {
		t.Fatalf("%d of %d calls were answered:\n%s", n, calls, out)
	}
	if n := strings.Count(loopback(), marker); n < calls {
		t.Errorf("the capture of the loopback interface has the marker %d times, so a capture shows nothing", n)
	}
	wire := link()
	if n := strings.Count(wire, marker); n > 0 {
		t.Errorf("the marker crossed the network in clear %d times", n)
	}
	checkLinks(t, []byte(wire), calls*2*len(marker), calls*len("answer "+marker))
}

// checkLinks insists that a capture has new links between agents, that they
// are TLS 1.3 and that what was asked and answered went through them.
func checkLinks(t *testing.T, capture []byte, asked, answered int) {
	t.Helper()
	all, err := flows(capture)
	if err != nil {
		t.Fatal(err)
	}
	hellos, sent, received := 0, 0, 0
	for _, f := range all {
		if !f.begun || f.from != inboundPort && f.to != inboundPort {
			continue
		}
		list, err := records(f.stream())
		if err != nil {
			t.Errorf("from port %d to %d: %v", f.from, f.to, err)
		}
		for _, r := range list {
			switch version := r.selected(); {
			case version != 0:
				hellos++
				if version != tls.VersionTLS13 {
					t.Errorf("a link uses %s", tls.VersionName(version))
				}
			case r.kind != applicationRecord:
			case r.version != tls.VersionTLS12: // as TLS 1.3 has it in every record
				t.Errorf("an application's record has version %#x", r.version)
			case f.to == inboundPort:
				sent += len(r.body)
			default:
				received += len(r.body)
			}
		}
	}
	t.Logf("%d bytes captured between the hosts, none of the application's in clear: %d new links of TLS 1.3, %d bytes in their records to port %d and %d from there",
		len(capture), hellos, sent, inboundPort, received)
	if hellos == 0 || sent < asked || received < answered {
		t.Errorf("too little for calls that carried %d bytes and %d back", asked, answered)
	}
}

// inboundPort is where agents take calls from others.
const inboundPort = 7443

// record captures an interface of h4 until the returned function is called,
// which gives the capture.
func (m *mesh) record(t *testing.T, link string) func() string {
	t.Helper()
	unit := "capture-" + link
	m.run(t, "h4", "systemd-run --quiet --unit="+unit+" tcpdump --immediate-mode -U -i "+link+" -w /root/"+link+".pcap tcp")
	m.waitOutput(t, "h4", "journalctl --output=cat --unit="+unit+" | grep --count 'listening on'", "1")
	return func() string {
		t.Helper()
		// On its way out tcpdump writes what it has.
		return m.run(t, "h4", "systemctl stop "+unit+"; cat /root/"+link+".pcap")
	}
}
