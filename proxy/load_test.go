package proxy

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshd/meshd/proxy/plan"
)

// An order is a request of which everything about the right response is known.
type order struct {
	id             int
	method         string
	body           string
	chunked        bool
	answer         int    // bytes of the response's body
	framing        string // of the response
	closes, expect bool
}

func newOrder(id int, random *rand.Rand) *order {
	o := &order{id: id, method: "GET", framing: []string{"sized", "chunked", "close"}[random.IntN(20)/9]}
	size := func() int {
		if random.IntN(20) == 0 {
			return random.IntN(200_000)
		}
		return random.IntN(2_000)
	}
	o.answer = size()
	switch random.IntN(10) {
	case 0:
		o.method = "HEAD"
	case 1, 2, 3, 4:
		o.method, o.body = "POST", text(-id, size())
		o.chunked, o.expect = random.IntN(2) == 0, random.IntN(10) == 0
	}
	o.closes = random.IntN(20) == 0
	return o
}

// text is bytes that only one order has.
func text(id, n int) string {
	unit := fmt.Sprintf("<%d>", id)
	return strings.Repeat(unit, n/len(unit)+1)[:n]
}

func (o *order) raw() (head, body string) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s /%d?answer=%d&framing=%s HTTP/1.1\r\nHost: orders\r\nX-Sum: %d\r\nX-Caller-%d: yes\r\n", o.method, o.id, o.answer, o.framing, crc32.ChecksumIEEE([]byte(o.body)), o.id)
	if o.closes {
		b.WriteString("Connection: close\r\n")
	}
	if o.expect && o.body != "" {
		b.WriteString("Expect: 100-continue\r\n")
	}
	switch {
	case o.method != "POST":
		return b.String() + "\r\n", ""
	case !o.chunked:
		return b.String() + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(o.body)), o.body
	}
	b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
	var chunks strings.Builder
	for rest := o.body; rest != ""; {
		n := min(len(rest), 1+len(rest)/3)
		fmt.Fprintf(&chunks, "%x\r\n%s\r\n", n, rest[:n])
		rest = rest[n:]
	}
	return b.String(), chunks.String() + "0\r\n\r\n"
}

// take answers an order, and reports what does not belong to it.
func take(seen *sync.Map, complain func(string, ...any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := strings.TrimPrefix(r.URL.Path, "/")
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the caller has left
		}
		if sum := fmt.Sprint(crc32.ChecksumIEEE(body)); sum != r.Header.Get("X-Sum") || r.Header.Get("X-Caller-"+id) != "yes" {
			complain("order %s arrives with %d bytes, sum %s, %v", id, len(body), sum, r.Header)
		}
		if _, twice := seen.LoadOrStore(r.Method+id, true); twice && r.Method == "POST" {
			complain("order %s arrives twice", id)
		}
		n, _ := strconv.Atoi(r.URL.Query().Get("answer"))
		number, _ := strconv.Atoi(id)
		answer := text(number, n)
		w.Header().Set("X-Id", id)
		switch r.URL.Query().Get("framing") {
		case "sized":
			w.Header().Set("Content-Length", fmt.Sprint(n))
		case "close":
			w.Header().Set("Connection", "close")
		}
		for answer != "" && r.Method != "HEAD" {
			k := min(len(answer), 1+len(answer)/2)
			io.WriteString(w, answer[:k])
			if answer = answer[k:]; n%7 == 0 {
				w.(http.Flusher).Flush()
			}
		}
	}
}

// A caller makes orders over connections as it likes: in bursts, in pieces, and
// at times it leaves in the middle.
type caller struct {
	t      *testing.T
	mesh   *mesh
	random *rand.Rand
	next   int
	right  int
}

func (c *caller) run(orders int) {
	for end := c.next + orders; c.next < end; {
		conn, err := net.Dial("tcp", c.mesh.vip)
		if err != nil {
			c.t.Error(err)
			return
		}
		c.talk(conn, end)
		conn.Close()
	}
}

// talk makes orders until the connection ends.
func (c *caller) talk(conn net.Conn, end int) {
	conn.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(conn)
	for c.next < end {
		var burst []*order
		for range 1 + c.random.IntN(4) {
			o := newOrder(c.next, c.random)
			c.next++
			burst = append(burst, o)
			if o.closes || o.expect {
				break
			}
		}
		abort := c.random.IntN(25) == 0
		sent := make(chan error, 1)
		go func() { sent <- c.send(conn, burst, abort, rand.New(rand.NewPCG(uint64(c.next), 7))) }()
		var again bool
		if !abort {
			again = c.receive(r, burst)
		}
		if abort || !again {
			conn.(*net.TCPConn).SetLinger(0)
			if abort && c.random.IntN(2) == 0 {
				<-sent
				conn.Close()
				return
			}
			conn.Close()
			<-sent
			return
		}
		if err := <-sent; err != nil {
			c.t.Errorf("sending: %v", err)
			return
		}
	}
}

func (c *caller) send(conn net.Conn, burst []*order, abort bool, random *rand.Rand) error {
	var all string
	for _, o := range burst {
		head, body := o.raw()
		all += head + body
	}
	if abort {
		all = all[:random.IntN(len(all))]
	}
	for all != "" {
		n := len(all)
		if random.IntN(3) > 0 {
			n = 1 + random.IntN(len(all))
		}
		if _, err := io.WriteString(conn, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// receive checks every response against its order, and reports whether the
// connection goes on.
func (c *caller) receive(r *bufio.Reader, burst []*order) bool {
	for _, o := range burst {
		answer, err := http.ReadResponse(r, &http.Request{Method: o.method})
		for err == nil && answer.StatusCode == 100 {
			answer, err = http.ReadResponse(r, &http.Request{Method: o.method})
		}
		if err != nil {
			c.t.Errorf("order %d: %v", o.id, err)
			return false
		}
		body, err := io.ReadAll(answer.Body)
		want := text(o.id, o.answer)
		if o.method == "HEAD" {
			want = ""
		}
		if err != nil || answer.StatusCode != 200 || answer.Header.Get("X-Id") != fmt.Sprint(o.id) || string(body) != want {
			c.t.Errorf("order %d %s: got %d %v, %d bytes of %d, %v", o.id, o.method, answer.StatusCode, answer.Header, len(body), len(want), err)
			return false
		}
		c.right++
		if answer.Close {
			return false
		}
	}
	return true
}

// Nothing is lost and nothing is mixed, however requests come.
func TestEveryResponseIsForItsRequest(t *testing.T) {
	m := newRealMesh(t, 3)
	var seen sync.Map
	for _, h := range m.hosts[1:] {
		m.serveHTTP(h, take(&seen, t.Errorf))
	}
	orders := 20_000
	if testing.Short() || raceEnabled {
		orders = 3_000
	}
	const callers = 8
	var running sync.WaitGroup
	var right atomic.Int64
	for i := range callers {
		running.Go(func() {
			c := &caller{t: t, mesh: m, random: rand.New(rand.NewPCG(uint64(i), 1)), next: 1 + i*1_000_000}
			c.run(orders / callers)
			right.Add(int64(c.right))
		})
	}
	running.Wait()
	t.Logf("%d of %d orders were waited for and right", right.Load(), orders)
	if right.Load() < int64(orders)*3/4 {
		t.Error("too few to show much")
	}
}

// Plans come and go under load; no request fails, and none goes to an endpoint
// that had left before it came.
func TestPlanSwapUnderLoad(t *testing.T) {
	m := newRealMesh(t, 4)
	m.cluster.Breaker = plan.Breaker{Consecutive: 5, SuccessRate: 0.8, Window: 10 * time.Second, MaxEjected: 0.5}
	var calls atomic.Int64
	for _, h := range m.hosts[1:] {
		m.serveHTTP(h, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			io.WriteString(w, r.URL.Path)
		})
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for i := range 4 {
		running.Go(func() {
			conn, err := net.Dial("tcp", m.vip)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				path := fmt.Sprintf("/%d/%d", i, n)
				fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: orders\r\nContent-Length: 2\r\n\r\nab", path)
				answer, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if body, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != 200 || string(body) != path {
					t.Errorf("%s: got %d %q, %v", path, answer.StatusCode, body, err)
					return
				}
			}
		})
	}
	all := m.cluster.Endpoints
	swaps := 100
	if testing.Short() || raceEnabled {
		swaps = 30
	}
	for i := range swaps {
		m.cluster.Endpoints = append([]plan.Endpoint(nil), all...)
		if i%2 == 0 {
			m.cluster.Endpoints = append(m.cluster.Endpoints[:i/2%3:i/2%3], all[i/2%3+1:]...)
		}
		m.service.Rules = nil
		if i%3 == 0 {
			m.service.Rules = []plan.Rule{{Match: plan.Match{Path: "/1", Prefix: true}, Target: m.service.Default}}
		}
		m.far().inbound.Policies = only(web)
		if i%5 == 0 {
			m.ca.Issue(web) // and with it, links drain
		}
		m.apply()
		for before := calls.Load(); calls.Load() < before+20 && !t.Failed(); {
			// Some calls for each plan.
		}
	}
	close(stop)
	running.Wait()
	if n := m.near().value(t, "meshd_requests_total", "status_class", "2xx"); n < float64(20*swaps) {
		t.Errorf("%v requests", n)
	}
}
