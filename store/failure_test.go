package store

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// breakDisk makes every write to a server's log fail from now on: behind the
// log's back its file becomes one that can only be read.
func (c *cluster) breakDisk(id string) {
	path := filepath.Join(c.dirs[id], logFile)
	fds, err := os.ReadDir("/proc/self/fd")
	c.must(err)
	broken, err := os.Open(path)
	c.must(err)
	defer broken.Close()
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to != path {
			continue
		}
		n, err := strconv.Atoi(fd.Name())
		c.must(err)
		if n != int(broken.Fd()) {
			c.must(syscall.Dup3(int(broken.Fd()), n, 0))
		}
	}
}

// A leader whose disk fails acknowledges nothing, says so and makes way.
func TestDiskFails(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		c.write(leader, "before")
		c.breakDisk(leader.config.ID)
		if _, err := leader.Apply(c.Context(), put("lost")); !errors.Is(err, ErrOutcomeUnknown) {
			c.Errorf("a write to a broken disk: %v", err)
		}
		<-leader.Failed()
		if err := leader.Err(); err == nil || !strings.Contains(err.Error(), logFile) {
			c.Errorf("the failure is %v", err)
		}
		if _, err := leader.Apply(c.Context(), put("lost")); !errors.Is(err, ErrFailed) || !errors.Is(err, leader.Err()) || errors.Is(err, ErrOutcomeUnknown) {
			c.Errorf("then: %v", err)
		}
		if txn, err := leader.Read(c.Context(), Stale); err != nil || txn.Service(nil, "before") == nil {
			c.Errorf("a stale read: %v", err)
		}
		c.writeVia(c.follower(leader), "after", leader.config.ID)
		c.must(leader.Shutdown())
		mended := c.start(leader.config.ID).config.ID
		c.sees(mended, c.writeVia(mended, "mended").Index, "before", "after", "mended")
	})
}

func TestSecondStoreOnOneDirectory(t *testing.T) {
	bubble(t, 1, Timing{}, func(c *cluster) {
		c.addHost("s2")
		config := c.config("s2")
		config.Dir = c.dirs["s1"]
		if _, err := Open(config); err == nil || !strings.Contains(err.Error(), "another meshd server") {
			c.Errorf("%v", err)
		}
		config.Stream.Close()
	})
}

func TestDirectoryIsPrivate(t *testing.T) {
	bubble(t, 1, Timing{}, func(c *cluster) {
		for _, name := range []string{"snapshots", logFile} {
			info, err := os.Stat(filepath.Join(c.dirs["s1"], name))
			c.must(err)
			if info.Mode().Perm()&0o077 != 0 {
				c.Errorf("%s has mode %v", name, info.Mode())
			}
		}
	})
}

func TestMetrics(t *testing.T) {
	bubble(t, 1, Timing{}, func(c *cluster) {
		c.stop("s1")
		registry := prometheus.NewPedanticRegistry()
		config := c.config("s1")
		config.Metrics = registry
		s, err := Open(config)
		c.must(err)
		c.stores["s1"] = s
		c.leaderSeenBy("s1")
		c.write(s, "web")
		problems, err := testutil.GatherAndLint(registry)
		if err != nil || len(problems) != 0 {
			c.Errorf("%v %v", problems, err)
		}
		want := map[string]float64{"meshd_raft_is_leader": 1, "meshd_raft_last_contact_seconds": 0, "meshd_raft_apply_seconds": 1}
		for name, value := range want {
			if got := metric(c, registry, name); got != value {
				c.Errorf("%s is %v, want %v", name, got, value)
			}
		}
		if got := metric(c, registry, "meshd_raft_applied_index"); got != float64(s.db.Read().Index(nil)) {
			c.Errorf("the applied index is %v", got)
		}
		c.stop("s1")
		if n, err := testutil.GatherAndCount(registry); n != 0 || err != nil {
			c.Errorf("%d metrics of a store that is gone", n)
		}
	})
}

// metric gives the value of a gauge, or how many times a histogram has.
func metric(c *cluster, registry prometheus.Gatherer, name string) float64 {
	families, err := registry.Gather()
	c.must(err)
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	c.Errorf("there is no metric %s", name)
	return -1
}

func TestLastContact(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		s := c.stores[c.follower(leader)]
		c.isolate(s.config.ID)
		c.pass(time.Minute)
		if got, ok := lastContact(s); !ok || got < 59 || got > 61 {
			c.Errorf("last contact %v s ago", got)
		}
	})
}
