package forward

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/meshd/meshd/proxy/exchange"
)

// A sender is a caller that sends payload in pieces of some size.
type sender struct {
	Caller
	left string
	step int
}

func (s *sender) Next(bool) ([]byte, error) {
	piece := s.left[:min(s.step, len(s.left))]
	s.left = s.left[len(piece):]
	return []byte(piece), nil
}

func (s *sender) Ended() bool { return s.left == "" }

func TestRequestBodyIsReplayed(t *testing.T) {
	payload := strings.Repeat("0123456789", 5000)
	for _, stop := range []int{0, 1, 5, 100} {
		var b requestBody
		b.reset(&sender{left: payload, step: 1000})
		read := func(pieces int) (got []byte) {
			for i := 0; i != pieces && !b.done(); i++ {
				p, err := b.next(true)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, p...)
			}
			return got
		}
		first := read(stop)
		if !strings.HasPrefix(payload, string(first)) || b.lost {
			t.Fatalf("%d bytes at first, lost %v", len(first), b.lost)
		}
		b.rewind()
		if got := read(-1); string(got) != payload {
			t.Errorf("stopped after %d pieces: %d bytes of %d", stop, len(got), len(payload))
		}
		b.release()
	}
}

func TestLongBodiesAreNotHeld(t *testing.T) {
	var b requestBody
	b.reset(&sender{left: strings.Repeat("x", maxReplay+1), step: 10_000})
	total := 0
	for !b.done() {
		p, err := b.next(true)
		if err != nil {
			t.Fatal(err)
		}
		total += len(p)
	}
	if !b.lost || b.replay != nil || total != maxReplay+1 || b.size != maxReplay+1 {
		t.Errorf("lost %v, %d bytes held, %d given, %d counted", b.lost, len(b.replay), total, b.size)
	}
}

func TestRetryAfter(t *testing.T) {
	f := func(status int, value string, least, most time.Duration) {
		t.Helper()
		r := exchange.Response{Status: status}
		r.Fields = []exchange.Field{{Name: []byte("Retry-After"), Value: []byte(value)}}
		if got := retryAfter(&r); got < least || got > most {
			t.Errorf("%d %q: %v", status, value, got)
		}
	}
	f(503, "5", 5*time.Second, 5*time.Second)
	f(429, "0", 0, 0)
	f(500, "5", 0, 0)
	f(503, "-5", 0, 0)
	f(503, "soon", 0, 0)
	f(503, "99999999999999999999", 0, 0)
	f(503, time.Now().Add(time.Minute).UTC().Format(http.TimeFormat), 50*time.Second, time.Minute)
	f(503, time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat), 0, 0)
}
