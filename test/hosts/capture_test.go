package hosts

import (
	"strings"
	"testing"
)

// marker is in the request and in the answer of the captured call.
const marker = "PLAINTEXT-MARKER-4711"

// capture records what a caller's host sends and receives, on its link and on
// its loopback interface, while a call carries the marker both ways.
func (m *mesh) capture(t *testing.T) {
	for _, host := range []string{"h1", "h2"} {
		m.write(t, host, "/srv/orders/"+marker, "answer "+marker+"\n")
	}
	link, loopback := m.record(t, "host0"), m.record(t, "lo")
	out := m.run(t, "h4", "curl --silent --show-error --fail --header 'X-Secret: "+marker+"' 'http://orders.mesh/"+marker+"?[1-20]'")
	if n := strings.Count(out, "answer "+marker); n != 20 {
		t.Fatalf("%d of 20 calls were answered:\n%s", n, out)
	}
	if n := strings.Count(loopback(), marker); n < 20 {
		t.Errorf("the capture of the loopback interface has the marker %d times, so a capture shows nothing", n)
	}
	wire := link()
	if n := strings.Count(wire, marker); n > 0 {
		t.Errorf("the marker crossed the network in clear %d times", n)
	}
	if len(wire) < 20*len(marker) {
		t.Errorf("only %d bytes were captured, less than the calls carried", len(wire))
	}
	t.Logf("%d bytes captured between the hosts, none of the application's in clear", len(wire))
}

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
