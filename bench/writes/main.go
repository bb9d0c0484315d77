// Writes measures acknowledged writes per second and their latency through three
// servers on this machine, of meshd and of its peers, in one run.
//
// Each write is of about 256 bytes to one of 1,000 keys, sent to the leader, and
// acknowledged when a majority has it on disk. Rounds are interleaved; medians of
// the rounds are shown, and ratios to meshd.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/meshd/meshd/bench/peers"
)

func main() {
	bin := flag.String("bin", "", "folder with meshd, consul and etcd")
	dir := flag.String("dir", "", "folder for data, on the disk that is to be measured")
	names := flag.String("peers", "meshd,etcd,consul", "whom to measure")
	clients := flag.String("clients", "1,16,64", "how many clients write at a time")
	length := flag.Duration("time", 5*time.Second, "how long one round of one peer takes")
	rounds := flag.Int("rounds", 5, "how many rounds")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{bin: *bin, dir: *dir, names: strings.Split(*names, ","), length: *length, rounds: *rounds, results: map[point][]result{}}
	if err := b.run(ctx, *clients); err != nil {
		fmt.Fprintln(os.Stderr, "writes:", err)
		os.Exit(1)
	}
}

type bench struct {
	bin, dir string
	names    []string
	length   time.Duration
	rounds   int
	results  map[point][]result
}

type point struct {
	peer    string
	clients int
}

// A result is one round's.
type result struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       time.Duration // of the three servers, a write
}

func (b *bench) run(ctx context.Context, list string) error {
	var clusters []*peers.Cluster
	defer func() {
		for _, c := range clusters {
			c.Stop()
		}
	}()
	for _, name := range b.names {
		c, err := peers.Start(ctx, name, b.bin, b.dir, 3)
		if err != nil {
			return err
		}
		clusters = append(clusters, c)
	}
	var counts []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		counts = append(counts, n)
	}
	for range b.rounds {
		for _, n := range counts {
			for _, i := range rand.Perm(len(clusters)) {
				r, err := b.round(ctx, clusters[i], n)
				if err != nil {
					return fmt.Errorf("%s with %d clients: %w", clusters[i].Name, n, err)
				}
				p := point{clusters[i].Name, n}
				b.results[p] = append(b.results[p], r)
			}
		}
	}
	return b.print(counts)
}

// round has n clients write for a while.
func (b *bench) round(ctx context.Context, c *peers.Cluster, n int) (result, error) {
	leader, err := c.Leader(ctx)
	if err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.length+10*time.Second)
	defer cancel()
	took := make([][]time.Duration, n)
	failures := make([]error, n)
	before, start := c.Usage(), time.Now()
	var writing sync.WaitGroup
	for i := range n {
		w, err := c.Dial(leader)
		if err != nil {
			return result{}, err
		}
		defer w.Close()
		writing.Go(func() { took[i], failures[i] = write(ctx, w, start.Add(b.length)) })
	}
	writing.Wait()
	elapsed := time.Since(start)
	for _, err := range failures {
		if err != nil {
			return result{}, err
		}
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	return result{
		perSecond: float64(len(all)) / elapsed.Seconds(),
		p50:       all[len(all)/2], p99: all[len(all)*99/100],
		cpu: (c.Usage().CPU - before.CPU) / time.Duration(len(all)),
	}, nil
}

func write(ctx context.Context, w peers.Writer, end time.Time) (took []time.Duration, err error) {
	for n := 0; time.Now().Before(end); n++ {
		start := time.Now()
		value := fmt.Sprintf("%0100d-%d", start.UnixNano(), n)
		if err := w.Put(ctx, fmt.Sprintf("key-%d", rand.IntN(1000)), value); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

func (b *bench) print(counts []int) error {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CLIENTS\tPEER\tWRITES/S\tP50\tP99\tCPU A WRITE\tMESHD'S WRITES/S TO IT\tMESHD'S P99 TO IT")
	for _, n := range counts {
		own := median(b.results[point{"meshd", n}])
		for _, name := range b.names {
			r := median(b.results[point{name, n}])
			fmt.Fprintf(t, "%d\t%s\t%.0f\t%v\t%v\t%v\t%.2f\t%.2f\n", n, name, r.perSecond, r.p50.Round(10*time.Microsecond), r.p99.Round(10*time.Microsecond),
				r.cpu.Round(time.Microsecond), own.perSecond/r.perSecond, float64(own.p99)/float64(r.p99))
		}
	}
	return t.Flush()
}

// median is that of each column.
func median(rounds []result) (m result) {
	if len(rounds) == 0 {
		return m
	}
	rate, p50, p99, cpu := []float64{}, []time.Duration{}, []time.Duration{}, []time.Duration{}
	for _, r := range rounds {
		rate, p50, p99, cpu = append(rate, r.perSecond), append(p50, r.p50), append(p99, r.p99), append(cpu, r.cpu)
	}
	slices.Sort(rate)
	slices.Sort(p50)
	slices.Sort(p99)
	slices.Sort(cpu)
	middle := len(rounds) / 2
	return result{rate[middle], p50[middle], p99[middle], cpu[middle]}
}
