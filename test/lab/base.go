package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const suite = "bookworm"

// packages is what every host of a lab has installed.
var packages = []string{
	"bind9-dnsutils", "ca-certificates", "curl", "dbus", "iproute2", "iputils-ping",
	"libnss-myhostname", "libnss-resolve", "libnss-systemd", "libpam-systemd", "nftables", "nginx-light",
	"polkitd", "procps", "python3", "systemd", "systemd-resolved", "systemd-sysv", "tcpdump",
}

// hooks shape the tree: hosts get name and machine id at boot, their address
// from systemd-networkd, and nothing runs in them that a test did not start.
var hooks = []string{
	`rm -f "$1/etc/hostname"; : >"$1/etc/machine-id"; rm -rf "$1"/var/cache/apt/*.bin`,
	`ln -sf ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"`,
	`systemctl --root="$1" enable systemd-networkd systemd-resolved`,
	`systemctl --root="$1" disable nginx`,
	`systemctl --root="$1" mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer systemd-networkd-wait-online@.service`,
}

// baseTree gives the tree that all hosts share, building it when there is none
// for this recipe. It stays locked against removal until the file is closed.
func baseTree(ctx context.Context, logf func(string, ...any)) (*os.File, error) {
	cache := cacheDir()
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	guard, err := lock(cache, syscall.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	tree := filepath.Join(cache, recipeHash())
	if _, err := os.Stat(tree); os.IsNotExist(err) {
		logf("building the tree that lab hosts share in %s: about a minute, once", tree)
		removeUnused(cache)
		if err := build(ctx, tree); err != nil {
			return nil, err
		}
	}
	return lock(tree, syscall.LOCK_SH)
}

func cacheDir() string {
	if dir := os.Getenv("MESHD_LAB_CACHE"); dir != "" {
		return dir
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "meshd-lab")
	}
	return "/var/cache/meshd-lab"
}

// recipeHash names a tree by all that went into it.
func recipeHash() string {
	recipe := suite + "\n" + strings.Join(packages, "\n") + "\n" + strings.Join(hooks, "\n")
	sum := sha256.Sum256([]byte(recipe))
	return "base-" + hex.EncodeToString(sum[:6])
}

func build(ctx context.Context, tree string) error {
	unfinished := tree + ".new"
	// In a mount namespace of its own, an interrupted build leaves no mounts.
	args := []string{"--mount", "--propagation=private", "mmdebstrap", "--variant=minbase", "--quiet",
		"--include=" + strings.Join(packages, ","),
		"--aptopt=Acquire::Languages \"none\"",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
	}
	for _, hook := range hooks {
		args = append(args, "--customize-hook="+hook)
	}
	if _, err := output(exec.CommandContext(ctx, "unshare", append(args, suite, unfinished)...)); err != nil {
		return fmt.Errorf("building the lab's base tree: %w", err)
	}
	return os.Rename(unfinished, tree)
}

// removeUnused deletes trees of other recipes, and unfinished ones, unless a
// running lab uses them.
func removeUnused(cache string) {
	trees, _ := filepath.Glob(filepath.Join(cache, "base-*"))
	for _, tree := range trees {
		if f, err := lock(tree, syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			os.RemoveAll(tree)
			f.Close()
		}
	}
}

func lock(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f, nil
}
