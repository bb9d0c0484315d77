package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
)

// policy is what the tour applies: the text is what a person would write.
const policy = `kind: policy
name: orders
service: orders
rules:
  - {name: web-reads, from: [web], methods: [GET]}
`

// Tour shows, step by step, what the mesh does for the shop's calls. All that it
// prints was seen just then.
func (s *Shop) Tour(ctx context.Context, out io.Writer) error {
	for i, step := range []struct {
		title string
		show  func(context.Context, io.Writer) error
	}{
		{"A call from web to orders: mutual TLS, both sides know who the other is", s.showCall},
		{"Two instances of orders, one of them slow: balanced by measured latency", s.showBalance},
		{"Who may call: web may read orders and nothing else", s.showPolicy},
		{"An instance dies while it is called", s.showDeath},
		{"The control plane is stopped: calls do not need it", s.showOutage},
	} {
		fmt.Fprintf(out, "\n%d. %s\n", i+1, step.title)
		if err := step.show(ctx, out); err != nil {
			return fmt.Errorf("step %d of the tour (%s): %w", i+1, step.title, err)
		}
	}
	return nil
}

func (s *Shop) get(ctx context.Context) (order, error) {
	return getOrder(ctx, s.client, http.MethodGet, s.orders, "7")
}

func (s *Shop) showCall(ctx context.Context, out io.Writer) error {
	begin := time.Now()
	o, err := s.get(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "   GET http://%s/orders/7   200 in %s\n", s.orders, ms(time.Since(begin)))
	fmt.Fprintf(out, "   %s answered; it was told that the caller is %s\n", o.Host, o.Caller)
	fmt.Fprintf(out, "   for the answer it asked the ledger over TCP, through the mesh as well: %q\n", o.Entry)
	return nil
}

func (s *Shop) showBalance(ctx context.Context, out io.Writer) error {
	run := s.call(ctx, 300)
	for _, h := range s.mesh.Hosts[1:3] {
		note := ""
		if h == s.mesh.Hosts[2] {
			note = fmt.Sprintf("   (%s slower)", ms(slowness))
		}
		fmt.Fprintf(out, "   %s answered %3d of %d calls%s\n", h.Name, run.by[h.Name], run.calls, note)
	}
	fmt.Fprintf(out, "   %s\n", run)
	return nil
}

func (s *Shop) showPolicy(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "   $ meshd apply -f policy.yaml\n%s", indent(policy))
	begin := time.Now()
	if err := s.apply(ctx, policy); err != nil {
		return err
	}
	refused, err := s.untilRefused(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "   %s later on both hosts: POST /orders/7   %s\n", ms(time.Since(begin)), refused)
	if _, err := s.get(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "   GET /orders/7   200\n")
	return nil
}

func (s *Shop) apply(ctx context.Context, text string) error {
	docs, err := config.DecodeResources("policy.yaml", []byte(text))
	if err != nil {
		return err
	}
	admin, err := client.Dial(ctx, s.mesh.Socket())
	if err != nil {
		return err
	}
	defer admin.Close()
	var request apiv1.ApplyRequest
	for _, d := range docs {
		request.Resources = append(request.Resources, d.Resource)
	}
	reply, err := admin.Admin().Apply(ctx, &request)
	if err != nil {
		return err
	}
	return config.Report(docs, reply.GetProblems())
}

// untilRefused posts until both instances have refused one after the other.
func (s *Shop) untilRefused(ctx context.Context) (last *refusedError, err error) {
	const inARow = 8
	for n := 0; n < inARow; {
		_, err := getOrder(ctx, s.client, http.MethodPost, s.orders, "7")
		if err == nil {
			n = 0
			continue
		}
		if !errors.As(err, &last) || last.status != http.StatusForbidden {
			return nil, err
		}
		n++
	}
	return last, nil
}

func (s *Shop) showDeath(ctx context.Context, out io.Writer) error {
	die := time.AfterFunc(100*time.Millisecond, s.slow.close)
	defer die.Stop()
	run := s.call(ctx, 500)
	fmt.Fprintf(out, "   the slow instance was stopped during these calls: %s\n", run)
	return run.problem()
}

func (s *Shop) showOutage(ctx context.Context, out io.Writer) error {
	s.mesh.StopServer()
	run := s.call(ctx, 500)
	fmt.Fprintf(out, "   server stopped: %s\n", run)
	if err := run.problem(); err != nil {
		return err
	}
	begin := time.Now()
	if err := s.mesh.StartServer(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "   server started again: ready for changes after %s\n", ms(time.Since(begin)))
	return nil
}

// A batch is what became of some calls.
type batch struct {
	calls  int
	failed []error
	took   []time.Duration
	by     map[string]int // calls by the host that answered
}

func (s *Shop) call(ctx context.Context, n int) *batch {
	b := &batch{calls: n, by: map[string]int{}}
	for range n {
		begin := time.Now()
		o, err := s.get(ctx)
		if err != nil {
			b.failed = append(b.failed, err)
			continue
		}
		b.took = append(b.took, time.Since(begin))
		b.by[o.Host]++
	}
	slices.Sort(b.took)
	return b
}

func (b *batch) String() string {
	if len(b.took) == 0 {
		return fmt.Sprintf("%d calls, %d failed", b.calls, len(b.failed))
	}
	return fmt.Sprintf("%d calls, %d failed, median %s, 99 of 100 within %s",
		b.calls, len(b.failed), ms(b.took[len(b.took)/2]), ms(b.took[len(b.took)*99/100]))
}

// problem is an error when calls failed that should not have.
func (b *batch) problem() error {
	if len(b.failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d calls failed, the first with: %w", len(b.failed), b.calls, b.failed[0])
}

func ms(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("       " + line)
	}
	return b.String()
}
