package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
)

// Enter replaces this process by a program that runs on a host of a lab which
// another process holds, on this terminal. It returns only on failure.
func Enter(host string, args ...string) error {
	leader, err := findLeader(host)
	if err != nil {
		return err
	}
	scope, err := openScope(leader)
	if err != nil {
		return fmt.Errorf("entering host %s: %w", host, err)
	}
	self := []byte(strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(filepath.Join(scope.Name(), "cgroup.procs"), self, 0); err != nil {
		return fmt.Errorf("entering host %s: %w", host, err)
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return err
	}
	env := append(hostEnv[:len(hostEnv):len(hostEnv)], "TERM="+os.Getenv("TERM"))
	return syscall.Exec(nsenter, enterCommand(leader, args...), env)
}

// findLeader finds a host's systemd by its cgroup, so that no state file can
// tell of labs that are gone.
func findLeader(host string) (int, error) {
	ours := regexp.MustCompile(`(?m)^0::.*/meshd-lab-\d+/` + regexp.QuoteMeta(host) + `/payload/init\.scope$`)
	files, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, file := range files {
		if cgroups, err := os.ReadFile(file); err == nil && ours.Match(cgroups) {
			return strconv.Atoi(filepath.Base(filepath.Dir(file)))
		}
	}
	return 0, fmt.Errorf("no running lab has a host %s: start one with `make lab`", host)
}

var hostEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root", "LANG=C.UTF-8", "SYSTEMD_PAGER="}

// enterCommand is the command line that runs args in all namespaces of the
// host whose systemd has that PID.
func enterCommand(leader int, args ...string) []string {
	pid := strconv.Itoa(leader)
	return append([]string{"nsenter", "--target", pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
		"--root=/proc/" + pid + "/root", "--wd=/proc/" + pid + "/root", "--"}, args...)
}
