package meshtest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/meshtest"
)

// A load calls a service all the time and remembers what failed.
type load struct {
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	calls    int
	problems []string
}

// startLoad has a host call, both with a connection for each call and with one
// that stays.
func startLoad(t *testing.T, from *meshtest.Agent, url string) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop}
	t.Cleanup(func() { stop(); l.running.Wait() })
	kept := &http.Client{Transport: &http.Transport{DialContext: from.Dial}}
	for _, c := range []*http.Client{from.Client(), kept} {
		l.running.Go(func() {
			defer c.CloseIdleConnections()
			for {
				select {
				case <-ctx.Done():
					return
				case <-time.After(100 * time.Millisecond):
					l.note(call(c, url))
				}
			}
		})
	}
	return l
}

func (l *load) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if err != nil {
		l.problems = append(l.problems, fmt.Sprintf("%s: %v", time.Now().Format(time.TimeOnly), err))
	}
}

func call(c *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := c.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s", response.Status, response.Header.Get("meshd-error"))
	}
	return nil
}

// end checks that no call has failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.running.Wait()
	if len(l.problems) > 0 || l.calls < 100 {
		t.Errorf("%d of %d calls failed, the first %s", len(l.problems), l.calls, l.problems[:min(len(l.problems), 1)])
	}
}

// shown is the authority as a server shows it.
func shown(m *meshtest.Mesh) (reply *apiv1.ShowAuthorityReply) {
	m.T.Helper()
	m.WaitFor("a server to show the authority", func() bool {
		for _, s := range m.Servers {
			if !s.Running() {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			r, err := s.Admin().ShowAuthority(ctx, &apiv1.ShowAuthorityRequest{})
			cancel()
			if err == nil {
				reply = r
				return true
			}
		}
		return false
	})
	return reply
}

func rotate(t *testing.T, s *meshtest.Server, r *apiv1.RotateAuthorityRequest) *apiv1.RotateAuthorityReply {
	t.Helper()
	reply, err := s.Admin().RotateAuthority(t.Context(), r)
	if err != nil {
		t.Fatalf("rotating: %v", err)
	}
	return reply
}

// reach waits until a rotation is in a phase; PHASE_UNSPECIFIED is its end.
func reach(m *meshtest.Mesh, phase apiv1.Rotation_Phase) *apiv1.ShowAuthorityReply {
	m.T.Helper()
	var last *apiv1.ShowAuthorityReply
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if last = shown(m); last.GetRotation().GetPhase() == phase {
			return last
		}
	}
	m.T.Fatalf("waited in vain for %v: %v waits for %v", phase, last.GetRotation().GetPhase(), last.GetRotation().GetWaitingFor())
	return nil
}

func TestRootIsRotatedUnderLoad(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		orders(h2)
		known(m, h1, 1)
		l := startLoad(t, h1, "http://orders.mesh/")
		before := shown(m)
		rotate(t, m.Follower(), &apiv1.RotateAuthorityRequest{})
		reach(m, apiv1.Rotation_PHASE_RENEW)
		after := reach(m, apiv1.Rotation_PHASE_UNSPECIFIED)
		time.Sleep(5 * time.Second)
		l.end(t)
		if len(after.Certificates) != 2 || after.Certificates[0].Pin == before.Certificates[0].Pin || after.Generation != 1 {
			t.Errorf("after the rotation there are %v", after)
		}
	})
}
