package control

import (
	"strings"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := &fakeServer{name: "s1"}
		w.start("s1:7300", s)
		c := w.connect(Config{Servers: []string{"s1:7300"}})
		f := func(off time.Duration, want string) {
			t.Helper()
			s.set(func() { s.clock = func() int64 { return time.Now().Add(off).UnixNano() } })
			<-time.After(2 * heartbeat)
			err := c.Clock()
			if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("with a server %v ahead: %v, want %q", off, err, want)
			}
		}
		<-time.After(2 * heartbeat)
		if err := c.Clock(); err != nil {
			t.Errorf("with a server that does not say its time: %v", err)
		}
		f(0, "")
		f(59*time.Second, "")
		f(2*time.Minute, "is 2m0s behind the servers'")
		f(-time.Hour, "is 1h0m0s ahead of the servers'")
		f(0, "")
	})
}
