package check

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/memnet"
)

var (
	host    = netip.MustParseAddr("10.0.0.1")
	service = netip.MustParseAddrPort("127.0.0.1:8080")
	health  = &apiv1.CheckSpec{Kind: &apiv1.CheckSpec_Http{Http: "/healthz"}}
)

// serve runs an HTTP service on a host of its own until the test ends.
func serve(t *testing.T, h http.HandlerFunc) *memnet.Host {
	n := memnet.New().Host("h", host)
	l, err := n.Listen(t.Context(), "tcp", service.String())
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return n
}

// start returns what the checker reports, one at a time.
func start(t *testing.T, n *memnet.Host, spec *apiv1.CheckSpec) <-chan Result {
	results := make(chan Result, 100)
	c := Start(n, service, spec, func(r Result) { results <- r })
	t.Cleanup(c.Stop)
	return results
}

func next(t *testing.T, results <-chan Result, passing bool, output string) {
	t.Helper()
	select {
	case r := <-results:
		if r.Passing != passing || !strings.Contains(r.Output, output) {
			t.Errorf("reported %+v, want passing=%v with %q", r, passing, output)
		}
	case <-time.After(time.Minute):
		t.Errorf("nothing was reported; want passing=%v with %q", passing, output)
	}
}

func nothing(t *testing.T, results <-chan Result) {
	t.Helper()
	select {
	case r := <-results:
		t.Errorf("reported %+v, want nothing", r)
	case <-time.After(time.Minute):
	}
}

func TestHTTPFollowsTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var status atomic.Int32
		status.Store(200)
		n := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/healthz" {
				t.Errorf("asked for %s", r.URL)
			}
			w.WriteHeader(int(status.Load()))
			io.WriteString(w, "so \x1b[31mso\n")
		})
		results := start(t, n, health)
		next(t, results, true, "200 OK: so  [31mso")
		nothing(t, results)
		status.Store(503)
		next(t, results, false, "503 Service Unavailable")
		status.Store(204)
		next(t, results, true, "204 No Content")
	})
}

func TestOneFailureIsChance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		n := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if asked.Add(1)%2 == 0 {
				w.WriteHeader(500)
			}
		})
		results := start(t, n, health)
		next(t, results, true, "200 OK")
		nothing(t, results)
		if asked.Load() < 8 {
			t.Errorf("asked %d times in a minute", asked.Load())
		}
	})
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/healthz" {
				t.Error("a redirect was followed")
			}
			http.Redirect(w, r, "http://169.254.169.254/secret", http.StatusFound)
		})
		next(t, start(t, n, health), false, "302 Found")
	})
}

func TestSlowAnswersFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := serve(t, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(time.Hour):
			}
		})
		spec := &apiv1.CheckSpec{Kind: health.Kind, Timeout: durationpb.New(time.Second)}
		begin := time.Now()
		next(t, start(t, n, spec), false, context.DeadlineExceeded.Error())
		if d := time.Since(begin); d != time.Second {
			t.Errorf("the check took %v", d)
		}
	})
}

func TestTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New().Host("h", host)
		results := start(t, n, &apiv1.CheckSpec{Kind: &apiv1.CheckSpec_Tcp{Tcp: ":"}, Interval: durationpb.New(time.Second)})
		next(t, results, false, "refused")
		l, err := n.Listen(t.Context(), "tcp", service.String())
		if err != nil {
			t.Fatal(err)
		}
		next(t, results, true, "connected to 127.0.0.1:8080")
		l.Close()
		next(t, results, false, "refused")
	})
}

func TestTCPTargets(t *testing.T) {
	f := func(tcp string, passing bool, output string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			n := memnet.New().Host("h", host)
			if _, err := n.Listen(t.Context(), "tcp", "127.0.0.1:90"); err != nil {
				t.Fatal(err)
			}
			next(t, start(t, n, &apiv1.CheckSpec{Kind: &apiv1.CheckSpec_Tcp{Tcp: tcp}}), passing, output)
		})
	}
	f(":90", true, "connected to 127.0.0.1:90")
	f("127.0.0.1:90", true, "connected to 127.0.0.1:90")
	f("127.0.0.1:", false, "refused")
	f("10.0.0.1:90", false, "not an address of this host's loopback interface")
}

func TestStopInTheMiddleReportsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		c := Start(n, service, health, func(r Result) { t.Errorf("reported %+v", r) })
		synctest.Wait()
		c.Stop()
	})
}

func TestVerdict(t *testing.T) {
	failure := errors.New("bad")
	f := func(inputs []error, want string) {
		t.Helper()
		var v verdict
		var got strings.Builder
		for _, err := range inputs {
			r, changed := v.take("fine", err)
			switch {
			case !changed:
				got.WriteByte('.')
			case r.Passing:
				got.WriteByte('+')
			default:
				got.WriteByte('-')
			}
		}
		if got.String() != want {
			t.Errorf("%v gave %s, want %s", inputs, got.String(), want)
		}
	}
	f([]error{nil, nil}, "+.")
	f([]error{failure, failure, nil}, "-.+")
	f([]error{nil, failure, failure, failure}, "+.-.")
	f([]error{nil, failure, nil, failure, failure}, "+...-")
}

func FuzzSummary(f *testing.F) {
	f.Add("200 OK", []byte("hello\x00\xff\n"))
	f.Fuzz(func(t *testing.T, status string, body []byte) {
		if s := summary(status, body); len(s) > maxOutput {
			t.Errorf("summary has %d bytes", len(s))
		}
	})
}
