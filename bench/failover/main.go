// Failover measures how long writes fail after the leader of three servers on
// this machine is killed (kill -9), of meshd and of its peers, with default
// settings.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/meshd/meshd/bench/peers"
)

func main() {
	bin := flag.String("bin", "", "folder with meshd, consul and etcd")
	dir := flag.String("dir", "", "folder for data")
	names := flag.String("peers", "meshd=50,etcd=10,consul=10", "whom to measure, and how many leaders of each to kill")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *bin, *dir, *names); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, dir, names string) error {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PEER\tKILLS\tMEDIAN\tWORST")
	for text := range strings.SplitSeq(names, ",") {
		name, count, _ := strings.Cut(text, "=")
		kills := 10
		if _, err := fmt.Sscan(count, &kills); count != "" && err != nil {
			return fmt.Errorf("%q is not NAME=KILLS", text)
		}
		gaps, err := measure(ctx, name, bin, dir, kills)
		if err != nil {
			return err
		}
		slices.Sort(gaps)
		fmt.Fprintf(t, "%s\t%d\t%v\t%v\n", name, kills, gaps[kills/2].Round(time.Millisecond), gaps[kills-1].Round(time.Millisecond))
	}
	return t.Flush()
}

func measure(ctx context.Context, name, bin, dir string, kills int) (gaps []time.Duration, err error) {
	c, err := peers.Start(ctx, name, bin, dir, 3)
	if err != nil {
		return nil, err
	}
	defer c.Stop()
	for i := range kills {
		gap, err := kill(ctx, c, i)
		if err != nil {
			return nil, fmt.Errorf("%s, kill %d: %w", name, i+1, err)
		}
		gaps = append(gaps, gap)
	}
	return gaps, nil
}

// kill kills the leader, writes through one of the others until a write is
// acknowledged, and has the killed one back.
func kill(ctx context.Context, c *peers.Cluster, n int) (gap time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	leader, err := c.Leader(ctx)
	if err != nil {
		return 0, err
	}
	w, err := c.Dial((leader + 1 + n%(c.Size()-1)) % c.Size())
	if err != nil {
		return 0, err
	}
	defer w.Close()
	if err := w.Put(ctx, "before", fmt.Sprint(n)); err != nil {
		return 0, err
	}
	c.Server(leader).Kill()
	start := time.Now()
	for try := 0; ; try++ {
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := w.Put(once, "after", fmt.Sprintf("%d-%d", n, try))
		cancel()
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return 0, err
		}
		time.Sleep(5 * time.Millisecond)
	}
	gap = time.Since(start)
	if err := c.Server(leader).Start(); err != nil {
		return 0, err
	}
	if err := c.WaitHealthy(ctx); err != nil {
		return 0, err
	}
	// Autopilots and leases settle.
	time.Sleep(3 * time.Second)
	return gap, nil
}
