// Start measures how long one server of meshd, and of Consul, takes to come up
// with a large catalogue, and how much memory the catalogue takes.
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
	bin := flag.String("bin", "", "folder with meshd and consul")
	dir := flag.String("dir", "", "folder for data")
	names := flag.String("peers", "meshd,consul", "whom to measure")
	hosts := flag.Int("hosts", 10000, "how many hosts there are")
	each := flag.Int("each", 10, "how many instances are on each")
	services := flag.Int("services", 1000, "of how many services they are")
	starts := flag.Int("starts", 5, "how often to start")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *bin, *dir, strings.Split(*names, ","), peers.Catalogue{Hosts: *hosts, PerHost: *each, Services: *services}, *starts); err != nil {
		fmt.Fprintln(os.Stderr, "start:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, dir string, names []string, catalogue peers.Catalogue, starts int) error {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PEER\tINSTANCES\tSTART TO READY\tWORST\tRSS EMPTY\tRSS FULL\tBYTES AN INSTANCE")
	for _, name := range names {
		c, err := peers.Start(ctx, name, bin, dir, 1)
		if err != nil {
			return err
		}
		defer c.Stop()
		empty := c.Usage().RSS
		if err := c.Fill(ctx, catalogue); err != nil {
			return err
		}
		var took []time.Duration
		var full int64
		for range starts {
			start := time.Now()
			if err := c.Server(0).Start(); err != nil {
				return err
			}
			if err := c.WaitInstances(ctx, catalogue.Instances()); err != nil {
				return err
			}
			took = append(took, time.Since(start))
			time.Sleep(3 * time.Second) // what starting took is collected
			full = c.Usage().RSS
			c.Server(0).Kill()
		}
		slices.Sort(took)
		fmt.Fprintf(t, "%s\t%d\t%v\t%v\t%d MB\t%d MB\t%d\n", name, catalogue.Instances(), took[len(took)/2].Round(time.Millisecond),
			took[len(took)-1].Round(time.Millisecond), empty>>20, full>>20, (full-empty)/int64(catalogue.Instances()))
	}
	return t.Flush()
}
