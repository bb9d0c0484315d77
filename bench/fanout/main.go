// Fanout measures how long a change takes to reach all agents of a mesh: three
// servers of meshd, each a process of its own, and simulated agents with a
// stream each, over loopback.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/meshd/meshd/bench/peers"
)

// A setup says what to measure.
type setup struct {
	bin, dir            string
	instances, services int
	rounds              int
	pause               time.Duration
}

func main() {
	var s setup
	flag.StringVar(&s.bin, "bin", "", "folder with meshd")
	flag.StringVar(&s.dir, "dir", "", "folder for data")
	agents := flag.String("agents", "100,1000", "how many agents, each number measured by itself")
	flag.IntVar(&s.instances, "instances", 10_000, "how many instances in all")
	flag.IntVar(&s.services, "services", 500, "of how many services")
	flag.IntVar(&s.rounds, "rounds", 50, "how many changes of each kind")
	flag.DurationVar(&s.pause, "pause", 200*time.Millisecond, "between two changes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s, *agents); err != nil {
		fmt.Fprintln(os.Stderr, "fanout:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s setup, agents string) error {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "AGENTS\tCHANGE\tLAST AGENT P50\tP99\tMEDIAN AGENT\tSERVERS' CPU PER CHANGE\tIDLE CPU\tSERVERS' MEMORY")
	for text := range strings.SplitSeq(agents, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is no number of agents", text)
		}
		if err := s.measure(ctx, t, n); err != nil {
			return err
		}
	}
	return t.Flush()
}

func (s setup) measure(ctx context.Context, t *tabwriter.Writer, agents int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	c, err := peers.Start(ctx, "meshd", s.bin, filepath.Join(s.dir, strconv.Itoa(agents)), 3)
	if err != nil {
		return err
	}
	defer c.Stop()
	began := time.Now()
	fleet, err := c.NewFleet(ctx, peers.Catalogue{Hosts: agents, PerHost: max(1, s.instances/agents), Services: s.services})
	if err != nil {
		return err
	}
	defer fleet.Close()
	fmt.Fprintf(os.Stderr, "%d agents have joined and know everything after %v\n", agents, time.Since(began).Round(time.Millisecond))
	idle, err := s.idle(ctx, c)
	if err != nil {
		return err
	}
	for _, kind := range []struct {
		name   string
		change func(context.Context, string) ([]time.Duration, error)
	}{{"instance", fleet.ChangeInstance}, {"resource", fleet.ChangeResource}} {
		if err := s.changes(ctx, t, c, agents, kind.name, idle, kind.change); err != nil {
			return err
		}
	}
	return nil
}

// idle is what share of one CPU the servers take when nothing changes.
func (s setup) idle(ctx context.Context, c *peers.Cluster) (share float64, err error) {
	const window = 5 * time.Second
	before := c.Usage().CPU
	if err := sleep(ctx, window); err != nil {
		return 0, err
	}
	return float64(c.Usage().CPU-before) / float64(window), nil
}

func (s setup) changes(ctx context.Context, t *tabwriter.Writer, c *peers.Cluster, agents int, kind string, idle float64, change func(context.Context, string) ([]time.Duration, error)) error {
	var last, median []time.Duration
	began, before := time.Now(), c.Usage().CPU
	for i := range s.rounds {
		told, err := change(ctx, fmt.Sprint(kind, "-", i))
		if err != nil {
			return err
		}
		last, median = append(last, told[len(told)-1]), append(median, told[len(told)/2])
		if err := sleep(ctx, s.pause); err != nil {
			return err
		}
	}
	used := c.Usage()
	cost := (used.CPU - before - time.Duration(idle*float64(time.Since(began)))) / time.Duration(s.rounds)
	slices.Sort(last)
	slices.Sort(median)
	p99 := last[min(len(last)-1, len(last)*99/100)]
	fmt.Fprintf(t, "%d\t%s\t%v\t%v\t%v\t%v\t%.0f %%\t%d MiB\n", agents, kind, round(last[len(last)/2]), round(p99), round(median[len(median)/2]),
		round(cost), 100*idle, used.RSS>>20)
	return nil
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
