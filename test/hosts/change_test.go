package hosts

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// watcher calls again and again until the answer (status and last word of the
// body) has the text that a line of standard input wants, and prints when it
// first had. Hosts of a lab share one clock.
const watcher = `
import sys, time, urllib.error, urllib.request
def answer():
    try:
        r = urllib.request.urlopen(sys.argv[1], timeout=10)
    except urllib.error.HTTPError as e:
        r = e
    return '%s %s' % (r.status, r.read().decode().split()[-1])
for want in map(str.strip, sys.stdin):
    print('watching', flush=True)
    while want not in answer():
        time.sleep(0.005)
    print(time.time_ns(), flush=True)
`

// A change is one that is made and unmade, and what calls to url say under each.
type change struct {
	kind, url      string
	content, wants [2]string
}

// changes tries a change of every kind.
func (m *mesh) changes(t *testing.T) {
	toSubset := func(name string) string {
		return "kind: route\nname: orders-v2\nservice: orders\nrules:\n  - split: [{to: orders@" + name + "}]\n"
	}
	m.apply(t, "h1", ordersPolicy(everyoneMayCall))
	for _, c := range []change{
		{"service", "http://shaky.mesh/slow?100",
			[2]string{shakyService("timeout: {request: 15s}"), shakyService("timeout: {request: 50ms}")}, [2]string{"200", "504"}},
		{"route", "http://orders.mesh/",
			[2]string{toSubset("v1"), toSubset("v2")}, [2]string{"h1", "h2"}},
		{"policy", "http://orders.mesh/",
			[2]string{ordersPolicy(onlyWeb), ordersPolicy(everyoneMayCall)}, [2]string{"403", "200"}},
	} {
		m.flip(t, c)
	}
	m.apply(t, "h1", ordersService+"---\n"+ordersRoute)
}

// flip makes a change up to three times. It must act everywhere within a second
// of meshd apply returning; a machine that is busy with other things may need
// more, so the best counts.
func (m *mesh) flip(t *testing.T, c change) {
	t.Helper()
	watchers := m.watch(t, c.url)
	m.act(t, watchers, c, 0)
	best := time.Hour
	for try := 1; try <= 3 && best > time.Second; try++ {
		best = min(best, m.act(t, watchers, c, try%2))
	}
	if best > time.Second {
		t.Errorf("a change of a %s took %s at best to act on every host, want at most a second", c.kind, millis(best))
	}
	for _, w := range watchers {
		w.stop(t)
	}
}

// act applies one side of a change, and tells how much later than that every
// host saw it.
func (m *mesh) act(t *testing.T, watchers []*watch, c change, side int) time.Duration {
	t.Helper()
	for _, w := range watchers {
		w.start(t, c.wants[side])
	}
	m.write(t, "h3", "/root/change.yaml", c.content[side])
	done := parseNanos(t, m.run(t, "h3", "meshd apply -f /root/change.yaml >/dev/null && date +%s%N"))
	var last time.Duration
	var each []string
	for _, w := range watchers {
		after := parseNanos(t, w.line(t)).Sub(done)
		each = append(each, fmt.Sprintf("%s %s", w.host, millis(after)))
		last = max(last, after)
	}
	t.Logf("a %s acts (%s) after meshd apply: %s", c.kind, c.wants[side], strings.Join(each, ", "))
	return last
}

func parseNanos(t *testing.T, s string) time.Time {
	t.Helper()
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(0, n)
}

// A watch is a watcher on a host.
type watch struct {
	host  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
}

// watch starts a watcher on every host.
func (m *mesh) watch(t *testing.T, url string) (all []*watch) {
	t.Helper()
	for _, h := range m.Hosts() {
		w := &watch{host: h.Name, cmd: h.Command(t.Context(), "python3", "-u", "-c", watcher, url)}
		stdin, err1 := w.cmd.StdinPipe()
		stdout, err2 := w.cmd.StdoutPipe()
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		w.stdin, w.lines = stdin, bufio.NewReader(stdout)
		if err := w.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
	}
	return all
}

// start returns once the watcher is about to call.
func (w *watch) start(t *testing.T, want string) {
	t.Helper()
	if _, err := fmt.Fprintln(w.stdin, want); err != nil {
		t.Fatal(err)
	}
	if line := w.line(t); line != "watching" {
		t.Fatalf("the watcher on %s said %q", w.host, line)
	}
}

func (w *watch) line(t *testing.T) string {
	t.Helper()
	late := time.AfterFunc(patience, func() { w.cmd.Cancel() })
	defer late.Stop()
	line, err := w.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the watcher on %s never saw the change, or ended: %v", w.host, err)
	}
	return strings.TrimSpace(line)
}

func (w *watch) stop(t *testing.T) {
	t.Helper()
	w.stdin.Close()
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("the watcher on %s: %v", w.host, err)
	}
}
